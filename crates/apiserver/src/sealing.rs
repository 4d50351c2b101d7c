//! Encryption at rest as the flags say.

use std::path::Path;
use std::sync::Arc;

use encryption::Encryption;
use futures::FutureExt;
use rt::Shutdown;

use crate::assemble::{RunError, read_text};
use crate::flags::Flags;

const FLAG: &str = "--encryption-provider-config";

/// What the file says, followed when it is to be.
pub(crate) async fn load(flags: &Flags, shutdown: &Shutdown) -> Result<Option<Arc<Encryption>>, RunError> {
    let Some(path) = &flags.encryption_provider_config else { return Ok(None) };
    let text = read_text(FLAG, path)?;
    let encryption = Encryption::load(&text, shutdown.clone()).await?;
    if flags.encryption_provider_config_automatic_reload {
        let target = encryption.clone();
        let apply = move |content: Vec<u8>| {
            let target = target.clone();
            async move {
                let text = String::from_utf8(content).map_err(|e| e.to_string())?;
                target.reload(&text).await.map_err(|e| e.to_string())
            }
            .boxed()
        };
        crate::follow::follow(FLAG, path.clone(), text.as_bytes(), shutdown.clone(), Box::new(apply));
    }
    Ok(Some(encryption))
}

/// Makes the configuration of a cluster that seals its secrets, with a new key, unless the file is there already. It is on disk before
/// this returns: without it, what is sealed cannot be read again.
///
/// # Errors
/// The file cannot be read or written.
pub fn ensure_secrets_configuration(path: &Path) -> Result<(), RunError> {
    let pki = |what| move |source| RunError::Pki { what, source };
    if pki::files::read(path).map_err(pki("read the encryption's configuration"))?.is_some() {
        return Ok(());
    }
    let text = encryption::new_secrets_configuration()?;
    pki::files::write(path, &text, 0o600, true).map_err(pki("write the encryption's configuration"))
}
