//! Sorting, seats, lending and fairness.

use futures::FutureExt;
use http::Method;

use super::*;

fn info(method: &Method, path: &str) -> RequestInfo {
    RequestInfo::new(method, path, &Query::parse(""))
}

#[test]
fn requests_are_sorted_as_upstream() {
    let flow = FlowControl::new(600, Duration::from_secs(60));
    let schemas = flow.schemas.read().clone();
    let account = UserInfo::service_account;
    for (user, method, path, wanted) in [
        (UserInfo::new("a", &["system:masters"]), Method::GET, "/api/v1/pods", "exempt"),
        (UserInfo::anonymous(), Method::GET, "/readyz", "probes"),
        (UserInfo::anonymous(), Method::GET, "/version", "global-default"),
        (UserInfo::node("n"), Method::PATCH, "/api/v1/nodes/n/status", "system-node-high"),
        (UserInfo::node("n"), Method::GET, "/api/v1/pods", "system-nodes"),
        (
            UserInfo::new("system:kube-scheduler", &[]),
            Method::PUT,
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x",
            "system-leader-election",
        ),
        (UserInfo::new("system:kube-scheduler", &[]), Method::GET, "/api/v1/pods", "kube-scheduler"),
        (account("kube-system", "c"), Method::GET, "/api/v1/pods", "kube-system-service-accounts"),
        (account("default", "c"), Method::GET, "/api/v1/pods", "service-accounts"),
        (UserInfo::new("u", &[]), Method::GET, "/api/v1/pods", "global-default"),
    ] {
        let info = info(&method, path);
        let found = schemas.iter().find(|s| s.matches(&info, &user)).map(|s| s.name.as_str());
        assert_eq!(found, Some(wanted), "{} {path}", user.name);
    }
    let nominal: Vec<(String, bool)> =
        flow.pool.levels.lock().by_name.iter().map(|(name, l)| (name.clone(), l.config.exempt)).collect();
    assert_eq!(nominal.len(), 8);
}

fn level(name: &str, shares: u32, lendable: u32, queuing: config::Queuing) -> LevelConfig {
    LevelConfig {
        name: name.into(),
        uid: String::new(),
        exempt: false,
        shares,
        lendable_percent: lendable,
        borrowing_percent: None,
        queuing,
    }
}

fn arrival(flow: &str) -> Arrival {
    Arrival { schema: "s".into(), distinguisher: flow.into(), seats: 1, details: Details::default() }
}

const QUEUE: config::Queuing = config::Queuing::Queue { queues: 8, hand: 2, length: 4 };
const SOON: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn seats_are_lent_and_come_back() {
    let pool = Arc::new(Pool::new(10));
    pool.configure(&[level("a", 1, 40, QUEUE), level("b", 1, 40, config::Queuing::Reject)]);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.admit("a", arrival("x"), SOON).now_or_never().expect("at once").expect("a seat"));
    }
    let long = Duration::from_secs(60);
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pool.admit("a", arrival("x"), long))).collect();
    for one in &mut waiting {
        assert!(one.as_mut().now_or_never().is_none(), "it waits");
    }
    // After a period, b lends the two seats that it does not need.
    rt::time::sleep(Duration::from_secs(10)).await;
    pool.adjust();
    let limit = |name: &str| pool.levels.lock().by_name[name].current;
    assert_eq!((limit("a"), limit("b")), (7, 3));
    let granted = waiting.iter_mut().filter_map(|one| one.as_mut().now_or_never()).collect::<Vec<_>>();
    assert_eq!(granted.len(), 2);
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(pool.admit("b", arrival("y"), SOON).await);
    }
    assert!(own.iter().all(Result::is_ok));
    assert_eq!(pool.admit("b", arrival("y"), SOON).await.err().map(|s| s.code), Some(429));
    // What b wanted comes back to it.
    rt::time::sleep(Duration::from_secs(10)).await;
    pool.adjust();
    assert!(limit("b") >= 3 && limit("a") + limit("b") <= 11, "{} {}", limit("a"), limit("b"));
    drop((held, granted, own, waiting));
    assert!(pool.levels.lock().by_name.values().all(pool::Level::idle));
}

#[tokio::test]
async fn queues_are_fair_bounded_and_left() {
    let pool = Arc::new(Pool::new(1));
    pool.configure(&[level("a", 1, 0, QUEUE)]);
    let first = pool.admit("a", arrival("x"), SOON).await.expect("a seat");
    let late = pool.admit("a", arrival("x"), SOON).await;
    assert_eq!(late.err().map(|s| s.code), Some(429), "the wait was too long");
    // An elephant fills its hand of queues; a mouse still gets its turn early.
    let mut elephants = Vec::new();
    for _ in 0..8 {
        let mut one = Box::pin(pool.admit("a", arrival("elephant"), Duration::from_secs(60)));
        assert!(one.as_mut().now_or_never().is_none());
        elephants.push(one);
    }
    assert!(
        pool.admit("a", arrival("elephant"), SOON).now_or_never().expect("at once").is_err(),
        "its queues are full"
    );
    let mice = ["m1", "m2", "m3", "m4"].map(|m| Box::pin(pool.admit("a", arrival(m), Duration::from_secs(60))));
    let mut mouse = None;
    for mut candidate in mice {
        // One whose hand has an empty queue.
        if candidate.as_mut().now_or_never().is_none() {
            mouse = Some(candidate);
            break;
        }
    }
    let mut mouse = mouse.expect("a mouse finds an empty queue");
    drop(first);
    let mut served = 0;
    let mut all: Vec<_> = elephants.into_iter().map(Some).collect();
    while mouse.as_mut().now_or_never().is_none() {
        for slot in &mut all {
            if let Some(one) = slot
                && let Some(ticket) = one.as_mut().now_or_never()
            {
                drop(ticket);
                *slot = None;
                served += 1;
            }
        }
    }
    assert!(served <= 4, "{served} elephants went before the mouse");
    drop((all, mouse));
    let levels = pool.levels.lock();
    assert!(levels.by_name["a"].idle(), "those who went away left their places");
    assert_eq!(levels.by_name["a"].counts.timed_out, 1);
}
