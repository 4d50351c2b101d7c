use std::time::Duration;

use super::Queue;

#[tokio::test(start_paused = true)]
async fn a_key_is_worked_on_once_at_a_time() {
    let queue = Queue::new();
    queue.add("a");
    queue.add("a");
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.get().await, Some("a"));
    queue.add("a");
    assert_eq!(queue.len(), 0, "not handed out while worked on");
    queue.done(&"a");
    assert_eq!(queue.get().await, Some("a"));
}

#[tokio::test(start_paused = true)]
async fn the_earliest_delay_counts() {
    let queue = Queue::new();
    let start = rt::time::Instant::now();
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(3));
    queue.add_after("b", Duration::from_secs(5));
    assert_eq!(queue.get().await, Some("a"));
    assert_eq!(start.elapsed().as_secs(), 3);
    queue.done(&"a");
    assert_eq!(queue.get().await, Some("b"));
    assert_eq!(start.elapsed().as_secs(), 5);
    queue.close();
    assert_eq!(queue.get().await, None, "the stale entry of `a` adds nothing");
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_until_forgotten() {
    let queue = Queue::new();
    for want in [5, 10, 20] {
        let start = rt::time::Instant::now();
        queue.add_rate_limited("a");
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(start.elapsed().as_millis(), want);
        queue.done(&"a");
    }
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
}
