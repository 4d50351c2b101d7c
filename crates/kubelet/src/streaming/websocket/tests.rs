//! A client's messages against the server's side.

use super::*;

#[tokio::test]
async fn channels_are_taken_apart_and_closed() {
    for (base64, stdin, stdout) in [
        (false, Message::binary(b"\x00in".to_vec()), Message::binary(b"\x01out".to_vec())),
        (true, Message::text("0aW4="), Message::text("1b3V0")),
    ] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let encoding = Encoding { base64, close: !base64 };
        let (mut sources, out, session) = serve(far, encoding, &[0, 4]);
        let session = tokio::spawn(session);
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        client.send(stdin).await.unwrap();
        assert_eq!(sources[0].recv().await.unwrap(), "in");
        if encoding.close {
            client.send(Message::binary(vec![CLOSE_CHANNEL, 0])).await.unwrap();
            assert!(sources[0].recv().await.is_none());
        }
        out.send(Out::Data { id: 1, bytes: Bytes::from_static(b"out") }).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), stdout);
        drop(out);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        drop(client);
        session.await.unwrap();
    }
}
