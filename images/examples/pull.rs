//! Pulls one image into a store and says how long that took: `pull ROOT NAME`.

use knarr_images::{ImageStore, LayerKind, Options, Pull};
use std::io::Write;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(reference)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pull ROOT NAME [dir]".into());
    };
    let layers = match arguments.next().as_deref() {
        Some("dir") => LayerKind::Directory,
        _ => LayerKind::Auto,
    };
    let started = std::time::Instant::now();
    let store = ImageStore::open_with(root.as_ref(), Options { layers, ..Options::default() })?;
    let image = store.pull(Pull { reference, ..Pull::default() }).await?;
    writeln!(std::io::stdout(), "{} {:?}", image.id, started.elapsed())?;
    Ok(())
}
