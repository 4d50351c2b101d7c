//! `corten image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use images::{Registries, Store};
use local::{ClusterState, Layout};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Work with the images of a cluster.
#[derive(Debug, Args)]
pub struct Image {
    /// Name of the cluster.
    #[arg(long, default_value = "default", global = true)]
    name: String,
    /// Folder of a cluster that does not run. Default: /var/lib/corten/NAME.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take in all images of an archive: an OCI layout or the archive of `docker save`.
    Import {
        /// The archive, plain or compressed.
        file: PathBuf,
    },
    /// Pull an image from its registry, or the mirrors set for it.
    Pull {
        /// The image's name.
        image: String,
    },
    /// List the images.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove an image by name or id.
    Rm {
        /// Name or id.
        image: String,
    },
}

#[derive(Serialize)]
struct Line {
    id: String,
    names: Vec<String>,
    layers: usize,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(images::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Image { doing, source: Box::new(source) }
}

impl Image {
    fn store(&self) -> Result<Store> {
        let data = self.data_dir.clone().unwrap_or_else(|| local::default_data_dir(&self.name));
        let mut layout = Layout::new(&self.name, data);
        if let Some(state) = ClusterState::load(&layout)? {
            layout.data = state.data;
        }
        if !layout.data.exists() {
            let text = format!("there is no cluster {:?}; start it with `corten up --name {}`", self.name, self.name);
            return Err(Error::Other(text));
        }
        let store = Store::open(layout.images()).map_err(failed("open the image store"))?;
        let path = layout.registries();
        match std::fs::read(&path) {
            Ok(bytes) => {
                let registries: Registries =
                    serde_json::from_slice(&bytes).map_err(|e| Error::Other(format!("{}: {e}", path.display())))?;
                store.set_registries(registries);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { doing: "read", path: path.display().to_string(), source }),
        }
        Ok(store)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The image or the store is unusable.
    pub async fn run(self) -> Result<()> {
        let store = self.store()?;
        match self.command {
            Command::Import { file } => {
                let progress = Progress::start();
                let doing = format!("import {}", file.display());
                for image in store.import(&file).await.map_err(failed(doing))? {
                    progress.done(image.name.unwrap_or(image.id));
                }
            }
            Command::Pull { image } => {
                let progress = Progress::start();
                let id = store.pull(&image, None, None).await.map_err(failed(format!("pull {image}")))?;
                progress.done(format!("{image} is {id}"));
            }
            Command::List { json } => list(&store, json)?,
            Command::Rm { image } => store.remove(&image).map_err(failed(format!("remove {image}")))?,
        }
        Ok(())
    }
}

fn list(store: &Store, json: bool) -> Result<()> {
    let images = store.list().map_err(failed("list the images"))?;
    let lines: Vec<Line> =
        images.into_iter().map(|(id, record)| Line { id, names: record.tags, layers: record.layers.len() }).collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&lines).unwrap_or_default());
        return Ok(());
    }
    for line in lines {
        let short = line.id.trim_start_matches("sha256:").get(..12).unwrap_or_default().to_owned();
        println!("{short}  {}", if line.names.is_empty() { "<none>".to_owned() } else { line.names.join(", ") });
    }
    Ok(())
}
