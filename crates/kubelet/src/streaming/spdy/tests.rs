//! A client's frames against the server's side.

use super::*;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn header_blocks_share_one_compression_state() {
    let (mut out, mut back) = (Compressor::new(), Decompressor::new());
    for pairs in [&[("streamtype", "stdin")][..], &[("streamtype", "stdout"), ("port", "80")], &[]] {
        let block = out.compress(&headers(pairs));
        assert_eq!(back.decompress(&block).unwrap(), headers(pairs));
    }
    assert!(Decompressor::new().decompress(b"nonsense").is_err());
}

#[tokio::test]
async fn streams_are_opened_answered_and_closed() {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let (mut incoming, session) = serve(server);
    let session = tokio::spawn(session);
    let mut compressor = Compressor::new();
    let block = compressor.compress(&headers(&[("streamtype", "data")]));
    client.write_all(&frame::syn_stream(1, &block)).await.unwrap();
    client.write_all(&frame::data_header(1, 2, false)).await.unwrap();
    client.write_all(b"hi").await.unwrap();
    client.write_all(&frame::data_header(1, 0, true)).await.unwrap();

    let mut stream = incoming.recv().await.unwrap();
    assert_eq!((stream.id, stream.headers["streamtype"].as_str()), (1, "data"));
    assert_eq!(stream.source.recv().await.unwrap(), "hi");
    assert!(stream.source.recv().await.is_none());
    stream.sink.send(Bytes::from_static(b"yo")).await;
    stream.sink.close().await;
    drop((stream, incoming));

    let mut buffer = BytesMut::new();
    let mut kinds = Vec::new();
    // The client closes; the server says good-bye and waits.
    while kinds.last().is_none_or(|kind| kind != "bye") {
        let Some(frame) = frame::parse(&mut buffer).unwrap() else {
            assert_ne!(client.read_buf(&mut buffer).await.unwrap(), 0);
            continue;
        };
        kinds.push(match frame {
            Frame::Headers { block } => format!("reply {}", Decompressor::new().decompress(&block).unwrap().len()),
            Frame::Data { id, fin, bytes } => format!("data {id} {fin} {}", bytes.len()),
            Frame::GoAway => "bye".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["reply 0", "data 1 false 2", "data 1 true 0", "bye"]);
    drop(client);
    session.await.unwrap().unwrap();
}
