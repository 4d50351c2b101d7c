//! Imports an archive into a store, and lists what is there: `import STORE FILE...`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let store = images::Store::open(arguments.next().ok_or("usage: import STORE FILE...")?)?;
    for file in arguments {
        let begin = std::time::Instant::now();
        let imported = store.import_blocking(file.as_ref())?;
        println!("{} images from {file} in {:?}", imported.len(), begin.elapsed());
    }
    for (id, image) in store.list()? {
        println!("{} {:?} {} layers", &id[..19], image.tags, image.layers.len());
    }
    Ok(())
}
