//! The layout, the updates, and what is refused.

use std::os::unix::fs::MetadataExt;

use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    files
        .iter()
        .map(|(path, data)| ((*path).to_owned(), FileProjection::new(data.as_bytes().to_vec(), 0o644)))
        .collect()
}

#[test]
fn files_appear_change_and_vanish_together() {
    let dir = tempfile::tempdir().unwrap();
    let keep = |_: &Path| Ok(());
    assert!(write(dir.path(), &payload(&[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]), keep).unwrap());
    assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(fs::read_to_string(dir.path().join("d/e/f")).unwrap(), "2");
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o644);
    let first = fs::read_link(dir.path().join(DATA)).unwrap();

    assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]), keep).unwrap());
    assert_eq!(fs::read_link(dir.path().join(DATA)).unwrap(), first);

    assert!(write(dir.path(), &payload(&[("d/g", "4"), ("n", "5")]), keep).unwrap());
    assert_eq!(fs::read_to_string(dir.path().join("d/g")).unwrap(), "4");
    assert!(fs::symlink_metadata(dir.path().join("a")).is_err());
    assert!(!dir.path().join("d/e").exists());
    assert!(!dir.path().join(first).exists());
}

#[test]
fn escapes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["/a", "..", "../a", "a/../b", "", "..a"] {
        assert!(write(dir.path(), &payload(&[(path, "x")]), |_| Ok(())).is_err(), "{path}");
    }
}

#[test]
fn a_failed_ownership_change_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &payload(&[("a", "1")]), |_| Ok(())).unwrap();
    let refused = write(dir.path(), &payload(&[("a", "2")]), |_| Err(Error::Invalid("no".to_owned())));
    assert!(refused.is_err());
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}
