//! Transactions.

use bytes::Bytes;
use store::{
    Compare, CompareOp, CompareTarget, Conditional, Error, KeyRange, Op, OpResponse, PutOp, RangeRequest, Txn,
};

use super::Env;

pub async fn compares(env: Env) {
    use CompareOp::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let first = env.put("a", "m").await;
    let second = env.put("a", "n").await;
    let value = |text: &'static str| Value(Bytes::from_static(text.as_bytes()));
    let table = [
        ("a", Equal, Mod(second), true),
        ("a", Equal, Mod(first), false),
        ("a", Greater, Mod(first), true),
        ("a", Less, Mod(first), false),
        ("a", Equal, Create(first), true),
        ("a", NotEqual, Create(first), false),
        ("a", Equal, Version(2), true),
        ("a", Greater, Version(1), true),
        ("a", Less, Version(2), false),
        ("a", Equal, value("n"), true),
        ("a", Greater, value("m"), true),
        ("a", Less, value("m"), false),
        ("a", NotEqual, value("m"), true),
        ("a", Equal, Lease(0), true),
        ("none", Equal, Mod(0), true),
        ("none", Equal, Version(0), true),
        ("none", Greater, Create(0), false),
        ("none", Equal, value(""), false),
        ("none", NotEqual, value("x"), false),
    ];
    for (name, op, target, holds) in table {
        let compare = Compare { range: KeyRange::key(env.key(name)), op, target };
        let txn = Txn { compares: vec![compare.clone()], ..Txn::default() };
        assert_eq!(env.store.txn(txn).await.expect("txn").succeeded, holds, "{compare:?}");
    }
    env.put("b", "n").await;
    for (version, holds) in [(3, true), (2, false)] {
        let compare = Compare { range: env.range(), op: Less, target: Version(version) };
        let txn = Txn { compares: vec![compare], ..Txn::default() };
        assert_eq!(env.store.txn(txn).await.expect("txn").succeeded, holds, "every key of a range is compared");
    }
}

pub async fn all_or_nothing(env: Env) {
    let before = env.put("a", "1").await;
    let txn = |guard| Txn {
        compares: vec![Compare::mod_revision(env.key("a"), guard)],
        success: vec![Op::put(env.key("b"), "1"), Op::put(env.key("c"), "1"), Op::delete(env.key("a"))],
        failure: vec![Op::get(env.key("a"))],
    };
    let missed = env.store.txn(txn(before - 1)).await.expect("txn");
    assert!(!missed.succeeded && missed.revision == before);
    let done = env.store.txn(txn(before)).await.expect("txn");
    assert_eq!((done.succeeded, done.revision, done.responses.len()), (true, before + 1, 3));
    let list = env.store.range(RangeRequest::new(env.range())).await.expect("range");
    assert_eq!(env.names(&list.kvs), ["b=1", "c=1"]);
    assert!(list.kvs.iter().all(|kv| kv.mod_revision == before + 1), "one revision for all");
}

pub async fn conditional_writes(env: Env) {
    let key = env.key("a");
    let put = async |expected, value: &'static str| {
        env.store.put_if(key.clone(), expected, Bytes::from_static(value.as_bytes()), 0).await.expect("put_if")
    };
    let Conditional::Applied { revision: first } = put(0, "1").await else { panic!("a create must apply") };
    let Conditional::Conflict { current: Some(current), .. } = put(0, "x").await else {
        panic!("a create must conflict")
    };
    assert_eq!((current.mod_revision, &current.value[..]), (first, &b"1"[..]));
    let Conditional::Applied { revision: second } = put(first, "2").await else { panic!("an update must apply") };
    let stale = env.store.delete_if(key.clone(), first).await.expect("delete_if");
    assert!(matches!(stale, Conditional::Conflict { current: Some(kv), .. } if kv.mod_revision == second));
    let gone = env.store.delete_if(key.clone(), second).await.expect("delete_if");
    assert_eq!(gone, Conditional::Applied { revision: second + 1 });
    let late = env.store.put_if(key.clone(), second, Bytes::new(), 0).await.expect("put_if");
    assert_eq!(late, Conditional::Conflict { current: None, revision: second + 1 });
}

pub async fn reads_its_own_writes(env: Env) {
    env.put("a", "old").await;
    let put = PutOp { key: env.key("a"), value: Bytes::from_static(b"new"), prev_kv: true, ..PutOp::default() };
    let success = vec![
        Op::get(env.key("a")),
        Op::Put(put),
        Op::get(env.key("a")),
        Op::DeleteRange { range: KeyRange::key(env.key("none")), prev_kv: true },
    ];
    let done = env.store.txn(Txn { success, ..Txn::default() }).await.expect("txn");
    let value = |at: usize| match &done.responses[at] {
        OpResponse::Range(range) => env.names(&range.kvs).join(","),
        OpResponse::Put { prev_kv } => env.names(prev_kv.as_slice()).join(","),
        other => panic!("{other:?}"),
    };
    assert_eq!([value(0), value(1), value(2)], ["a=old", "a=old", "a=new"]);
    assert_eq!(done.responses[3], OpResponse::DeleteRange { deleted: 0, prev_kvs: vec![] });
}

pub async fn inner_transactions(env: Env) {
    let inner = Txn {
        compares: vec![Compare::mod_revision(env.key("a"), 0)],
        success: vec![Op::put(env.key("b"), "absent before")],
        failure: vec![Op::put(env.key("b"), "present before")],
    };
    let txn = Txn { success: vec![Op::put(env.key("a"), "1"), Op::Txn(inner)], ..Txn::default() };
    let done = env.store.txn(txn).await.expect("txn");
    assert_eq!(env.value("b").await.as_deref(), Some("absent before"), "inner compares see the state before");
    let OpResponse::Txn(inner) = &done.responses[1] else { panic!("{done:?}") };
    assert!(inner.succeeded && inner.responses.len() == 1);
}

pub async fn refused_transactions(env: Env) {
    let before = env.put("a", "1").await;
    let refused = async |success| {
        env.store.txn(Txn { success, ..Txn::default() }).await.expect_err("the transaction must be refused")
    };
    let error = refused(vec![Op::put(env.key("b"), "1"), Op::put(env.key("b"), "2")]).await;
    assert!(matches!(error, Error::DuplicateKey), "{error:?}");
    let error = refused(vec![Op::put(env.key("b"), "1"), Op::DeleteRange { range: env.range(), prev_kv: false }]).await;
    assert!(matches!(error, Error::DuplicateKey), "{error:?}");
    let error = refused((0..200).map(|n| Op::put(env.key(&n.to_string()), "x")).collect()).await;
    assert!(matches!(error, Error::TooManyOps { .. }), "{error:?}");
    let leased = PutOp { key: env.key("c"), lease: 0x7777_0001, ..PutOp::default() };
    let error = refused(vec![Op::put(env.key("b"), "1"), Op::Put(leased)]).await;
    assert!(matches!(error, Error::LeaseNotFound(_)), "{error:?}");
    assert_eq!(env.store.current_revision().await.expect("revision"), before, "nothing was written");
    assert_eq!((env.value("b").await, env.value("c").await), (None, None));
}

pub async fn concurrent_counters(env: Env) {
    let (tasks, rounds) = (8, 10);
    let add = async |env: Env| {
        for _ in 0..rounds {
            let (mut kv, _) = env.store.get(env.key("n")).await.expect("get");
            loop {
                let count =
                    kv.as_ref().map_or(0, |kv| String::from_utf8_lossy(&kv.value).parse::<i64>().expect("a number"));
                let expected = kv.as_ref().map_or(0, |kv| kv.mod_revision);
                let value = Bytes::from((count + 1).to_string());
                match env.store.put_if(env.key("n"), expected, value, 0).await.expect("put_if") {
                    Conditional::Applied { .. } => break,
                    Conditional::Conflict { current, .. } => kv = current,
                }
            }
        }
    };
    futures::future::join_all((0..tasks).map(|_| add(env.clone()))).await;
    assert_eq!(env.value("n").await, Some((tasks * rounds).to_string()));
    let (kv, _) = env.store.get(env.key("n")).await.expect("get");
    assert_eq!(kv.map(|kv| kv.version), Some(i64::from(tasks * rounds)));
}

pub async fn ignore_value_and_lease(env: Env) {
    let lease = env.store.lease_grant(600, 0).await.expect("grant").id;
    let keep_value = PutOp { key: env.key("a"), lease, ignore_value: true, ..PutOp::default() };
    let run = async |put: &PutOp| env.store.txn(Txn { success: vec![Op::Put(put.clone())], ..Txn::default() }).await;
    assert!(matches!(run(&keep_value).await, Err(Error::KeyNotFound)));
    env.put("a", "1").await;
    run(&keep_value).await.expect("put");
    let keep_lease =
        PutOp { key: env.key("a"), value: Bytes::from_static(b"2"), ignore_lease: true, ..PutOp::default() };
    run(&keep_lease).await.expect("put");
    let (kv, _) = env.store.get(env.key("a")).await.expect("get");
    let kv = kv.expect("the key is there");
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"2"[..], lease, 3));
    env.store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(env.value("a").await, None);
}

pub async fn read_only_keeps_revision(env: Env) {
    let before = env.put("a", "1").await;
    let txn = Txn {
        compares: vec![Compare::mod_revision(env.key("a"), before)],
        success: vec![Op::get(env.key("a")), Op::Range(RangeRequest::new(env.range()).count_only())],
        failure: vec![],
    };
    let done = env.store.txn(txn).await.expect("txn");
    assert_eq!((done.succeeded, done.revision, done.responses.len()), (true, before, 2));
    let OpResponse::Range(count) = &done.responses[1] else { panic!("{done:?}") };
    assert_eq!(count.count, 1);
}
