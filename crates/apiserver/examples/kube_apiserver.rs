//! `kube-apiserver` alone, for trials before the one binary has it.

#[tokio::main]
async fn main() {
    let shutdown = rt::Shutdown::new();
    let stop = shutdown.clone();
    rt::spawn("signals", async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let code = apiserver::command::main(std::env::args_os().collect(), shutdown).await;
    std::process::exit(code.into());
}
