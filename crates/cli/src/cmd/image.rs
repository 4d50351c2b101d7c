//! `corten image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use images::Store;
use local::{ClusterState, Layout};
use node_api::ImageSpec;
use serde::Serialize;

use crate::cmd::{down, workshop};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Work with the images of a cluster.
#[derive(Debug, Args)]
pub struct Image {
    /// Name of the cluster. Default: `default`; in the workshop, the kubelet that runs alone.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Folder of a cluster that does not run. Default: /var/lib/corten/NAME.
    #[arg(long, global = true, conflicts_with = "name")]
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
    /// Where the images are.
    fn layout(&self) -> Result<Layout> {
        if let Some(dir) = &self.data_dir {
            if !dir.exists() {
                return Err(Error::Other(format!("there is no folder {}", dir.display())));
            }
            return Ok(Layout::new("", dir.clone()));
        }
        if self.name.is_none() && workshop::inside() {
            return Ok(Layout::lone_node());
        }
        let name = self.name.as_deref().unwrap_or("default");
        let mut layout = Layout::new(name, local::default_data_dir(name));
        if let Some(state) = ClusterState::load(&layout)? {
            layout.data = state.data;
        }
        if !layout.data.exists() {
            let flag = down::name_flag(name);
            return Err(Error::Other(format!("there is no cluster {name:?}; start it with `corten up{flag}`")));
        }
        Ok(layout)
    }

    fn store(&self) -> Result<Store> {
        Store::open(self.layout()?.images()).map_err(failed("open the image store"))
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
            Command::Rm { image } => {
                let found = stored(&store, &image)?;
                store.remove(&found).map_err(failed(format!("remove {image}")))?;
            }
        }
        Ok(())
    }
}

/// A stored image by its name, its id, or the beginning of its id, as the list shows it.
fn stored(store: &Store, text: &str) -> Result<String> {
    let spec = ImageSpec { image: text.to_owned(), ..ImageSpec::default() };
    if store.find(&spec).map_err(failed("look for the image"))?.is_some() {
        return Ok(text.to_owned());
    }
    let images = store.list().map_err(failed("list the images"))?;
    let mut ids = images.into_iter().map(|(id, _)| id).filter(|id| id.trim_start_matches("sha256:").starts_with(text));
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::Other(format!("several images have an id that begins with {text}"))),
        (None, _) => Err(Error::Other(format!("there is no image {text}"))),
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
