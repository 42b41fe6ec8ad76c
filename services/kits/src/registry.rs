//! The kits that there are: what every source has and ever had, found by id and by range of versions.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use kombify_contracts::kombify::kits::v1::{Kit as KitMessage, KitSummary};
use kombify_core::{Error, Result};
use kombify_kit::{Digest, Files, Kit, Manifest, Verdict, Version, VersionReq};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::convert;
use crate::gate::Viewer;
use crate::index::{Index, Part, Release};
use crate::intake::Taken;
use crate::keep::Keep;
use crate::source::Source;

/// How many bytes of kits that are in use are held in memory.
const IN_USE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How a registry is made.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Where kits come from: an id belongs to the source that had it first.
    pub sources: Vec<Source>,
    /// Where every version is kept.
    pub keep: PathBuf,
    /// Between two looks at the sources.
    pub refresh: Duration,
}

/// The kits that there are.
pub struct Registry {
    pub(crate) sources: Vec<Source>,
    pub(crate) keep: Keep,
    pub(crate) refresh: Duration,
    pub(crate) index: RwLock<Arc<Index>>,
    /// What each source was found to have, in the order of the sources; the index is made of it.
    pub(crate) parts: Mutex<Vec<Part>>,
    /// Whole kits, as they are used.
    in_use: Cache<Digest, Arc<Loaded>, ByWeight>,
    pub(crate) taken: Mutex<Taken>,
    /// How many specs are judged at once: each takes a core for itself.
    judging: Semaphore,
}

/// A kit that is in use: all of it, and its archive.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) kit: Kit,
    pub(crate) archive: Bytes,
    /// Of the archive: of the bytes that are sent.
    pub(crate) archive_digest: Digest,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Digest, Arc<Loaded>> for ByWeight {
    fn weight(&self, _: &Digest, loaded: &Arc<Loaded>) -> u64 {
        u64::try_from(loaded.archive.len() + loaded.kit.weight_bytes()).unwrap_or(u64::MAX).max(1)
    }
}

impl Registry {
    /// A registry that knows no kits yet: [`Registry::look`] looks at its sources.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if a source has no name, or the name of another.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        let mut names = BTreeSet::new();
        for source in &config.sources {
            let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !(1..=40).contains(&source.name.len()) || !source.name.bytes().all(label) {
                return Err(Error::invalid("kits.sources.name", "must be 1 to 40 of [a-z0-9-]"));
            }
            if !names.insert(&source.name) {
                return Err(Error::invalid("kits.sources.name", format!("`{}` is there twice", source.name)));
            }
        }
        Ok(Self {
            keep: Keep::new(config.keep),
            refresh: config.refresh,
            index: RwLock::default(),
            parts: Mutex::new(config.sources.iter().map(|_| Part::default()).collect()),
            in_use: Cache::with_weighter(256, IN_USE_MAX_BYTES, ByWeight),
            taken: Mutex::default(),
            judging: Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get)),
            sources: config.sources,
        })
    }

    fn load(&self, source: &str, id: &str, version: &Version) -> Result<Loaded, String> {
        let archive = self.keep.archive(source, id, version).map_err(|cause| cause.to_string())?;
        let files =
            Files::from_tar_gz(archive.as_slice()).map_err(|cause| format!("{id} {version}: {cause}"))?;
        let kit = Kit::load(files).map_err(|findings| {
            let first = findings.first().map(ToString::to_string).unwrap_or_default();
            format!("{id} {version}: {first}")
        })?;
        let archive_digest = Digest::of(&archive);
        Ok(Loaded { kit, archive: archive.into(), archive_digest })
    }

    /// What is known now.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything about a version of a kit, if the viewer may have it.
    ///
    /// # Errors
    /// - as for a kit that is downloaded.
    pub async fn describe(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: &str,
        ranges: &[VersionReq],
    ) -> Result<KitMessage> {
        let resolved = self.index().resolve(viewer, id, ranges)?;
        let loaded = self.whole(&resolved.release).await?;
        Ok(convert::kit(&resolved.release, &resolved.versions, &loaded.kit))
    }

    /// The kits that the viewer sees, by id; at most `limit`.
    pub fn summaries(&self, viewer: &Viewer, limit: usize) -> Vec<KitSummary> {
        let listed = self.index().list(viewer, |_| true, "", limit);
        listed.iter().map(|(release, count)| convert::summary(release, viewer, *count)).collect()
    }

    /// The whole kit of a release.
    ///
    /// # Errors
    /// - [`Error::Internal`] if what is kept cannot be read.
    pub(crate) async fn whole(self: &Arc<Self>, release: &Release) -> Result<Arc<Loaded>> {
        // By what it is: another kit may have the same name and version at another time.
        let load = async {
            let (this, source) = (Arc::clone(self), release.source.clone());
            let (id, version) = (release.manifest.id.clone(), release.manifest.version.clone());
            let loaded =
                blocking(move || this.load(&source, &id, &version)).await?.map_err(Error::internal)?;
            if *loaded.kit.digest() != release.digest {
                let Manifest { id, version, .. } = &release.manifest;
                return Err(Error::internal(format!("{id} {version} is not what it was")));
            }
            Ok(Arc::new(loaded))
        };
        self.in_use.get_or_insert_async(&release.digest, load).await
    }

    /// The version of a kit for a spec, and the verdict on the spec. The version is the newest that `range` and the spec
    /// itself allow; what the spec says of it badly is for the verdict.
    ///
    /// # Errors
    /// - as for [`Index::resolve`].
    pub(crate) async fn judge(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: &str,
        range: Option<VersionReq>,
        spec: String,
        strict: bool,
    ) -> Result<(Arc<Release>, Verdict)> {
        let (release, loaded, spec) = self.for_spec(viewer, id, range, spec).await?;
        let verdict = self.judging(move || loaded.kit.validate(&spec, strict)).await?;
        Ok((release, verdict))
    }

    /// Runs what computes on a spec where it holds up nobody, and no more of it at once than there are cores. Whoever is waited
    /// for no longer does not begin.
    pub(crate) async fn judging<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let _turn = self.judging.acquire().await.map_err(Error::internal)?;
        blocking(run).await
    }

    /// The release for a spec, and the whole kit of it.
    pub(crate) async fn for_spec(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: &str,
        range: Option<VersionReq>,
        spec: String,
    ) -> Result<(Arc<Release>, Arc<Loaded>, String)> {
        let (own, spec) = self.judging(move || (range_of(&spec), spec)).await?;
        let named: Vec<VersionReq> = range.into_iter().collect();
        let both: Vec<VersionReq> = named.iter().cloned().chain(own).collect();
        // Where the spec allows none that there is, the verdict says so, with the place in the text.
        let resolved = match self.index().resolve(viewer, id, &both) {
            Err(Error::NotFound { kind: "version", .. }) => self.index().resolve(viewer, id, &named),
            resolved => resolved,
        };
        let release = resolved?.release;
        let loaded = self.whole(&release).await?;
        Ok((release, loaded, spec))
    }

    /// The version of a kit that a stack is pinned to: what `judge` finds, if nothing is wrong with the spec.
    ///
    /// # Errors
    /// - as for [`Index::resolve`].
    /// - [`Error::Invalid`] with every fault of the spec, by its path behind "spec".
    pub async fn pin(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: &str,
        range: &str,
        spec: String,
    ) -> Result<(Version, Digest)> {
        let range = read_range("range", range)?;
        let (release, verdict) = self.judge(viewer, id, range, spec, false).await?;
        if verdict.is_valid() {
            Ok((release.manifest.version.clone(), release.digest))
        } else {
            Err(convert::problems(&verdict.errors))
        }
    }
}

/// A range of versions; empty: every one.
///
/// # Errors
/// - [`Error::Invalid`] if it is none.
pub(crate) fn read_range(field: &str, text: &str) -> Result<Option<VersionReq>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid(field, "must be a range of semver versions, for example ^1.0 or 1.2.3");
    kombify_kit::read_range(text).map(Some).ok_or_else(wrong)
}

/// The range of versions that a spec names, if it names one.
fn range_of(spec: &str) -> Option<VersionReq> {
    let document = kombify_kit::read(spec, kombify_kit::SPEC_MAX_BYTES).ok()?;
    kombify_kit::read_range(document.get("version")?.as_str()?)
}

/// Runs what computes for a while where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(Error::internal)
}
