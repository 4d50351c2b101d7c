//! kube-apiserver alone.
#[tokio::main]
async fn main() {
    let shutdown = rt::Shutdown::new();
    let stop = shutdown.clone();
    tokio::spawn(async move { let _ = tokio::signal::ctrl_c().await; stop.cancel(); });
    let code = apiserver::command::main(std::env::args().collect(), shutdown).await;
    std::process::exit(code);
}
