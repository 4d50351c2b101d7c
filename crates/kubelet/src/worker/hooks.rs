//! Lifecycle hooks.

use std::time::Duration;

use crate::k8s::Container;
use crate::k8s::core::LifecycleHandler;
use crate::probe::http;
use crate::shared::Shared;

/// Runs a hook to its end.
///
/// # Errors
/// Its text, for the waiting message; upstream keeps it out of events.
pub async fn run(
    shared: &Shared,
    id: &str,
    container: &Container,
    ip: &str,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        let done = shared.runtime.exec_sync(id, command, None).await.map_err(|e| e.chain())?;
        if done.exit_code == 0 {
            return Ok(());
        }
        let mut output = done.stdout;
        output.extend_from_slice(&done.stderr);
        return Err(format!(
            "Exec lifecycle hook ({}) for Container {:?} failed - error: command '{}' exited with {}: {}, message: {:?}",
            command.join(" "),
            container.name,
            command.join(" "),
            done.exit_code,
            String::from_utf8_lossy(&output),
            String::from_utf8_lossy(&output),
        ));
    }
    if let Some(action) = &hook.http_get {
        let port = crate::probe::port(&action.port, container).ok_or("the hook's port is not known")?;
        let mut request = http::Request::new(action, port, ip, "kube-lifecycle/1.36");
        match get(&request).await {
            Err(text) if request.scheme == "https" && text.contains("InvalidContentType") => {
                // As upstream: a server that answers in plain text is asked again without TLS.
                request.scheme = "http".to_owned();
                return get(&request).await;
            }
            result => return result,
        }
    }
    if let Some(sleep) = &hook.sleep {
        rt::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}

async fn get(request: &http::Request) -> Result<(), String> {
    let (status, _, _) = http::once(request).await.map_err(|e| format!("Get {:?}: {e}", request.url()))?;
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP lifecycle hook failed with status code {status}"))
    }
}
