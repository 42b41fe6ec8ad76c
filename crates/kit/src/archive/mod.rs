//! The files of a kit as an archive: read with suspicion, written in one canonical form.
//!
//! The reader is our own and knows nothing but ustar. The `tar` crate has whole extension entries (PAX records, GNU's
//! long names) in memory, up to the length that they claim, and gives several headers a say about one file: where two
//! readers weigh them differently, one checks another file than the other unpacks. (Its raw entries would leave the
//! rest to us.) In a kit, no extension is needed: a path of `PATH_CHARS_MAX` characters fits into the header. So each
//! of them is refused, and so is every link, device and sparse file. What remains is one block of 512 bytes at a time,
//! and one file within its bounds. Modes, owners and times are not looked at.
//!
//! What is accepted beyond that, since everybody's tools write it: folders (they mean nothing), `./` before a path,
//! GNU's magic where its header is otherwise like ustar's (the default of `tar` on Linux), and the commit that `git
//! archive` notes at the beginning.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::str::FromStr;

use aws_lc_rs::digest;
use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use kombify_core::Error;

use crate::files::{Files, Hostile, ReadError, Wrong, check_path};

/// How long an archive may be, in bytes, before it is compressed: twice what the files may have, for headers and
/// blanks.
pub const TAR_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long a compressed archive may be, in bytes: whoever may compress need not do it well. Source: contract C7.
pub const GZIP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long a block is, in bytes; headers have one, contents are filled up to whole ones.
const BLOCK_BYTES: usize = 512;

/// An operating system that is not told, in a gzip header.
const UNKNOWN_SYSTEM: u8 = 255;

type Block = [u8; BLOCK_BYTES];

/// What content is known by: SHA-256, written `sha256:<hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(hash)
    }

    /// The hash itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64)
            .and_then(|hex| hex.bytes().map(hex_digit).collect::<Option<Vec<_>>>())
            .ok_or_else(|| Error::invalid("digest", "must be sha256: and 64 of [0-9a-f]"))?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] << 4) | pair[1];
        }
        Ok(Self(hash))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Files {
    /// Reads a tar archive to its end.
    ///
    /// # Errors
    /// - [`ReadError::Hostile`] if there is a file that does not fit, or something else than files and folders.
    /// - [`ReadError::Archive`] if it is no ustar archive, or none to its end.
    /// - [`ReadError::Length`] if it has more than [`TAR_BYTES_MAX`] bytes.
    /// - [`ReadError::Io`] if `source` fails.
    pub fn from_tar(source: impl Read) -> Result<Self, ReadError> {
        // One byte more: an archive that is too long uses the limit up.
        let mut source = source.take(TAR_BYTES_MAX + 1);
        let files = read_entries(&mut source);
        if source.limit() == 0 { Err(ReadError::Length { limit_bytes: TAR_BYTES_MAX }) } else { files }
    }

    /// Reads a tar archive that gzip has compressed, in one member, as [`Files::from_tar`] does.
    ///
    /// # Errors
    /// - As [`Files::from_tar`].
    /// - [`ReadError::Archive`] if gzip's own check does not hold, or something follows.
    /// - [`ReadError::Length`] if it has more than [`GZIP_BYTES_MAX`] bytes.
    pub fn from_tar_gz(source: impl Read) -> Result<Self, ReadError> {
        let mut gzip = GzDecoder::new(BufReader::new(source.take(GZIP_BYTES_MAX + 1)));
        let files = Self::from_tar(&mut gzip);
        let mut source = gzip.into_inner();
        if source.get_ref().limit() == 0 {
            return Err(ReadError::Length { limit_bytes: GZIP_BYTES_MAX });
        }
        let files = files?;
        if source.fill_buf()?.is_empty() {
            Ok(files)
        } else {
            Err(ReadError::Archive("something follows the gzip stream"))
        }
    }

    /// The files as a tar archive, in the one form that the digest is made of: ustar, in the order of the paths' bytes,
    /// mode 0644, of user and group 0 without names, of time 0, without folders, and two blocks of zeros at its end.
    /// `tar --format=ustar --mode=0644 --owner=0 --group=0 --numeric-owner --mtime=@0 -b1` writes the same.
    pub fn to_tar(&self) -> Vec<u8> {
        let mut tar = Vec::with_capacity(self.bytes() + 2 * BLOCK_BYTES * (self.len() + 1));
        for (path, content) in self.iter() {
            tar.extend_from_slice(&header(path, content.len()));
            tar.extend_from_slice(content);
            tar.resize(tar.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        tar.resize(tar.len() + 2 * BLOCK_BYTES, 0);
        tar
    }

    /// [`Files::to_tar`], compressed by gzip at level 6, with neither name nor time. Another version of the compressor
    /// may write other bytes; the digest stays the same.
    ///
    /// # Panics
    /// Never: memory takes every byte.
    pub fn to_tar_gz(&self) -> Vec<u8> {
        let mut gzip =
            GzBuilder::new().operating_system(UNKNOWN_SYSTEM).write(Vec::new(), Compression::new(6));
        gzip.write_all(&self.to_tar()).and_then(|()| gzip.finish()).expect("memory takes every byte")
    }

    /// The digest of [`Files::to_tar`]: the same for the same paths and bytes, whatever order, times, owners and
    /// compressor they came with. Anybody can check it: `gunzip -c kit.tar.gz | sha256sum`.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_tar())
    }
}

/// What a header announces.
struct Header {
    path: String,
    kind: Kind,
    bytes: usize,
}

enum Kind {
    File,
    Folder,
    /// PAX records about the whole archive.
    Note,
}

fn read_entries(source: &mut impl Read) -> Result<Files, ReadError> {
    let mut files = Files::default();
    let mut is_first = true;
    while let Some(Header { path, kind, bytes }) = read_header(source)? {
        match kind {
            Kind::File => {
                let path = below(&path);
                files.check(path, bytes)?;
                files.insert(path, read_content(source, bytes)?)?;
            }
            Kind::Folder => check_folder(&path, bytes)?,
            Kind::Note => {
                let is_short = is_first && bytes <= BLOCK_BYTES;
                if !is_short || !is_comment(&read_content(source, bytes)?) {
                    return Err(Hostile::new(&path, Wrong::Kind("an extension of the format")).into());
                }
            }
        }
        is_first = false;
    }
    expect_end(source)?;
    Ok(files)
}

/// The next header; `None` where a block of zeros stands instead.
fn read_header(source: &mut impl Read) -> Result<Option<Header>, ReadError> {
    let mut block = [0; BLOCK_BYTES];
    source.read_exact(&mut block).map_err(damaged)?;
    if is_zero(&block) {
        return Ok(None);
    }
    let prefix = match &block[257..265] {
        b"ustar\x0000" => text(&block[345..500]),
        // Where ustar has the beginning of a long path, GNU has fields that only sparse files and dumps use.
        b"ustar  \0" if is_zero(&block[345..500]) => String::new(),
        _ => return Err(ReadError::Archive("it is not of the ustar format")),
    };
    if octal(&block[148..156]) != Some(checksum(&block)) {
        return Err(ReadError::Archive("the checksum of a header is wrong"));
    }
    let name = text(&block[..100]);
    let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    let kind = read_kind(block[156]).map_err(|kind| Hostile::new(&path, Wrong::Kind(kind)))?;
    let bytes = octal(&block[124..136]).ok_or(ReadError::Archive("the size in a header is no number"))?;
    // What no memory could hold does not fit either.
    Ok(Some(Header { path, kind, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }))
}

/// What the type flag of a header stands for; else what it is called where it is refused.
fn read_kind(flag: u8) -> Result<Kind, &'static str> {
    match flag {
        // Before ustar, a file was the flag 0.
        b'0' | 0 => Ok(Kind::File),
        b'5' => Ok(Kind::Folder),
        b'g' => Ok(Kind::Note),
        b'1' => Err("a hard link"),
        b'2' => Err("a symbolic link"),
        b'3' | b'4' => Err("a device"),
        b'6' => Err("a fifo"),
        b'S' => Err("a sparse file"),
        b'K' | b'L' | b'x' => Err("an extension of the format"),
        _ => Err("of a kind that is not known"),
    }
}

/// The content of that many bytes, which have been checked before.
fn read_content(source: &mut impl Read, bytes: usize) -> Result<Vec<u8>, ReadError> {
    let mut content = vec![0; bytes];
    source.read_exact(&mut content).map_err(damaged)?;
    let blanks = bytes.next_multiple_of(BLOCK_BYTES) - bytes;
    source.read_exact(&mut [0; BLOCK_BYTES][..blanks]).map_err(damaged)?;
    Ok(content)
}

/// The path without the `./` that `tar` writes before it.
fn below(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path)
}

/// A folder means nothing, but it must lie where files might.
fn check_folder(path: &str, bytes: usize) -> Result<(), ReadError> {
    if bytes > 0 {
        return Err(ReadError::Archive("a folder has content"));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path == "." {
        return Ok(());
    }
    let path = below(path);
    check_path(path).map_err(|wrong| Hostile::new(path, wrong).into())
}

/// Whether the records are one comment, as `git archive` leaves it: `52 comment=<commit>`. Anything else might speak
/// about the files.
fn is_comment(records: &[u8]) -> bool {
    let Some(record) = records.strip_suffix(b"\n") else { return false };
    let mut parts = record.splitn(2, |byte| *byte == b' ');
    parts.next() == Some(records.len().to_string().as_bytes())
        && parts.next().is_some_and(|comment| comment.starts_with(b"comment="))
        && !record.contains(&b'\n')
}

/// One block of zeros has been read. Another one must follow, and then nothing but zeros.
fn expect_end(source: &mut impl Read) -> Result<(), ReadError> {
    let mut block = [0; BLOCK_BYTES];
    source.read_exact(&mut block).map_err(damaged)?;
    let mut read = BLOCK_BYTES;
    while read > 0 {
        if !is_zero(&block[..read]) {
            return Err(ReadError::Archive("something follows its end"));
        }
        read = loop {
            match source.read(&mut block) {
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(damaged)?,
            }
        };
    }
    Ok(())
}

/// Damage is told from failure by the kinds that `flate2` and `read_exact` use for it.
fn damaged(fault: io::Error) -> ReadError {
    if fault.kind() == io::ErrorKind::UnexpectedEof {
        ReadError::Archive("it ends too early")
    } else if matches!(fault.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) {
        ReadError::Archive("its gzip stream is damaged")
    } else {
        ReadError::Io(fault)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A text up to its first zero.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// A number in octal digits, up to blanks or zeros. GNU's numbers in binary are none.
fn octal(field: &[u8]) -> Option<u64> {
    let end = field.iter().position(|byte| !matches!(byte, b'0'..=b'7')).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    let is_number = !digits.is_empty() && rest.iter().all(|byte| matches!(byte, 0 | b' '));
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 8 + u64::from(digit - b'0')))
}

/// The sum of a header's bytes, its own field taken for blanks.
fn checksum(block: &Block) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

fn header(path: &str, bytes: usize) -> Block {
    let mut block = [0; BLOCK_BYTES];
    put(&mut block, 0, path);
    put(&mut block, 100, "0000644\0");
    put(&mut block, 108, "0000000\0");
    put(&mut block, 116, "0000000\0");
    put(&mut block, 124, &format!("{bytes:011o}\0"));
    put(&mut block, 136, "00000000000\0");
    put(&mut block, 156, "0");
    put(&mut block, 257, "ustar\x0000");
    put(&mut block, 329, "0000000\0");
    put(&mut block, 337, "0000000\0");
    seal(&mut block);
    block
}

fn put(block: &mut Block, at: usize, text: &str) {
    block[at..at + text.len()].copy_from_slice(text.as_bytes());
}

/// Writes the checksum, when everything else is there.
fn seal(block: &mut Block) {
    let checksum = format!("{:06o}\0 ", checksum(block));
    put(block, 148, &checksum);
}

#[cfg(test)]
mod tests;
