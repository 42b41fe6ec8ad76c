//! Any bytes as the archive of a kit: what is taken fits the bounds, and packs to an archive that holds the same.

#![no_main]

use kombify_kit::{BYTES_MAX, FILES_MAX, Files, Kit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for files in [Files::from_tar(bytes), Files::from_tar_gz(bytes)].into_iter().flatten() {
        assert!(files.len() <= FILES_MAX && files.bytes() <= BYTES_MAX);
        assert!(
            files
                .iter()
                .all(|(path, _)| path.split('/').all(|segment| !segment.is_empty() && segment != ".."))
        );
        let again = Files::from_tar_gz(files.to_tar_gz().as_slice()).expect("what is packed can be read");
        assert_eq!((again.digest(), &again), (files.digest(), &files));
        let _ = Kit::load(files);
    }
});
