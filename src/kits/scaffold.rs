//! `kombify kits new`: a small kit that works, to start from.

use std::path::Path;

use include_dir::{Dir, include_dir};
use kombify_kit::{Files, Kit};

use super::say;
use crate::Fault;

/// The kit, with [`ID`] where its id belongs.
static TEMPLATE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/src/kits/template");

/// What stands in the template for the id.
const ID: &str = "KIT_ID";

/// Makes the directory, wholly or not at all.
///
/// # Errors
/// - if the directory is there, or its name is no id.
pub fn new(directory: &Path) -> Result<(), Fault> {
    if directory.try_exists()? {
        return Err(format!("{} is there already: name a directory that is not", directory.display()).into());
    }
    let whole = std::path::absolute(directory)?;
    let id = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kit = Kit::load(files(id)?).map_err(|findings| {
        let first = findings.first().map(ToString::to_string).unwrap_or_default();
        format!("`{id}` cannot be the id of a kit: {first}")
    })?;
    let parent = whole.parent().unwrap_or(&whole);
    let made = tempfile::Builder::new().prefix(".kit-").tempdir_in(parent);
    let made = made.map_err(|cause| format!("{}: {cause}", parent.display()))?;
    let root = made.path().join(id);
    for (path, content) in kit.files().iter() {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(&root))?;
        std::fs::write(file, content)?;
    }
    std::fs::rename(&root, &whole)?;
    say(&format!(
        "{}: a kit to start from. Next: kombify kits validate {0} && kombify kits test {0}",
        directory.display()
    ))
}

/// The files of the template for a kit of that id.
fn files(id: &str) -> Result<Files, Fault> {
    let mut files = Files::default();
    let mut dirs = vec![&TEMPLATE];
    while let Some(dir) = dirs.pop() {
        dirs.extend(dir.dirs());
        for file in dir.files() {
            let (path, text) = (file.path().to_str(), file.contents_utf8());
            let (Some(path), Some(text)) = (path, text) else { continue };
            files.insert(path, text.replace(ID, id))?;
        }
    }
    Ok(files)
}
