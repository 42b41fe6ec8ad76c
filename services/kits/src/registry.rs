//! The kits that there are: what every source has and ever had, found by id and by range of versions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use kombify_contracts::kombify::kits::v1::{Kit as KitMessage, KitSummary};
use kombify_core::{Error, OrgId, Plan, Result};
use kombify_kit::{Digest, Files, Kit, Manifest, Problem, Verdict, Version, VersionReq};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::gate::Viewer;
use crate::git::{Commit, GitSource};
use crate::keep::Keep;
use crate::source::{self, Found, Place, Source};

/// How many versions of a kit there may be.
pub(crate) const VERSIONS_MAX: usize = 200;

/// How many releases there may be, of all kits.
const RELEASES_MAX: usize = 20_000;

/// How many bytes of kits that are in use are held in memory.
const IN_USE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How a registry is made.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Where kits come from: an id belongs to the first source that has it.
    pub sources: Vec<Source>,
    /// Where every version is kept.
    pub keep: PathBuf,
    /// Between two looks at the sources.
    pub refresh: Duration,
}

/// The kits that there are.
pub struct Registry {
    sources: Vec<Source>,
    keep: Keep,
    refresh: Duration,
    index: RwLock<Arc<Index>>,
    /// Whole kits, as they are used.
    in_use: Cache<(String, Version), Arc<Loaded>, ByWeight>,
    /// What was told of the sources, so that it is told once. One look at them at a time.
    told: tokio::sync::Mutex<BTreeSet<String>>,
    taken: Mutex<Taken>,
}

/// What was taken already, and need not be checked and kept again: it never changes.
#[derive(Debug, Default)]
struct Taken {
    /// The contents of each source.
    contents: HashSet<(String, Digest)>,
    /// The commit that each tag of each source was, when it was taken.
    commits: HashMap<(String, Version), Commit>,
}

/// How far a look at the sources goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To every source.
    Everything,
    /// To what is on this machine: a repository may let one wait.
    ThisMachine,
}

/// What is known of every kit.
#[derive(Debug, Default)]
pub(crate) struct Index {
    kits: BTreeMap<String, Entry>,
    releases: usize,
}

/// One kit.
#[derive(Debug)]
pub(crate) struct Entry {
    source: String,
    organisation: Option<OrgId>,
    releases: BTreeMap<Version, Arc<Release>>,
}

/// One version of a kit, as far as lists need it.
#[derive(Debug)]
pub struct Release {
    /// What it is.
    pub(crate) manifest: Manifest,
    /// What identifies its content.
    pub(crate) digest: Digest,
    /// What words are looked for in: small letters.
    pub(crate) search_text: String,
    source: String,
    is_custom: bool,
}

impl Release {
    fn new(manifest: Manifest, digest: Digest, source: &Source) -> Self {
        let Manifest { id, title, description, tags, .. } = &manifest;
        let search_text = format!("{id} {title} {description} {}", tags.join(" ")).to_lowercase();
        let is_custom = source.organisation.is_some();
        Self { manifest, digest, search_text, source: source.name.clone(), is_custom }
    }

    /// The least plan that may have it: custom kits are for enterprise.
    pub(crate) fn needed_plan(&self) -> Plan {
        if self.is_custom { self.manifest.min_plan.max(Plan::Enterprise) } else { self.manifest.min_plan }
    }
}

impl Entry {
    /// Every version, newest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.releases.keys().rev()
    }

    /// The newest version that everything allows: a pre-release only where nothing else is there, or where it is named.
    fn newest(&self, allowed: &[VersionReq]) -> Option<&Arc<Release>> {
        let fits = |version: &&Version| allowed.iter().all(|range| range.matches(version));
        let mut stable = self.releases.iter().rev().filter(|(version, _)| version.pre.is_empty());
        if let Some((_, release)) = stable.find(|(version, _)| fits(version)) {
            return Some(release);
        }
        self.releases.iter().rev().find(|(version, _)| fits(version)).map(|(_, release)| release)
    }

    /// The version that a list shows.
    pub(crate) fn shown(&self) -> Option<&Arc<Release>> {
        self.newest(&[])
    }
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

impl Weighter<(String, Version), Arc<Loaded>> for ByWeight {
    fn weight(&self, _: &(String, Version), loaded: &Arc<Loaded>) -> u64 {
        let parsed = loaded.kit.files().bytes() * 4;
        u64::try_from(loaded.archive.len() + parsed).unwrap_or(u64::MAX).max(1)
    }
}

/// A release with the versions beside it.
pub(crate) struct Resolved {
    pub(crate) release: Arc<Release>,
    pub(crate) versions: Vec<Version>,
}

impl Registry {
    /// A registry that knows no kits yet: [`Registry::refresh`] looks at its sources.
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
            in_use: Cache::with_weighter(256, IN_USE_MAX_BYTES, ByWeight),
            told: tokio::sync::Mutex::default(),
            taken: Mutex::default(),
            sources: config.sources,
        })
    }

    /// Looks at the sources, now and again and again until cancelled.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.look(Reach::Everything) => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.refresh) => {}
            }
        }
    }

    /// Looks at the sources, and keeps what is new. What is wrong with one kit or source is told in the log, once, and
    /// stands in nobody else's way.
    pub async fn look(self: &Arc<Self>, reach: Reach) {
        let mut told = self.told.lock().await;
        let mut wrong = BTreeSet::new();
        let mut index = Index::default();
        for source in &self.sources {
            for problem in self.look_at(source, reach, &mut index).await {
                wrong.insert(format!("{}: {problem}", source.name));
            }
        }
        for problem in wrong.difference(&told) {
            tracing::warn!(problem, "not taken into the registry");
        }
        *told = wrong;
        let kits = index.kits.len();
        let mut known = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if known.kits.len() != kits {
            tracing::info!(kits, "kits are there");
        }
        *known = Arc::new(index);
    }

    /// Looks at one source; answers with what is wrong.
    async fn look_at(self: &Arc<Self>, source: &Source, reach: Reach, index: &mut Index) -> Vec<String> {
        let mut wrong = Vec::new();
        match &source.place {
            Place::BuiltIn(contents) => {
                let contents = Arc::clone(contents);
                self.take(source, move || Ok(source::built_in(&contents)), &mut wrong).await;
            }
            Place::Directory(path) => {
                let path = path.clone();
                let read = move || {
                    source::directory(&path)
                        .map_err(|cause| format!("{} cannot be read: {cause}", path.display()))
                };
                self.take(source, read, &mut wrong).await;
            }
            Place::Git(_) if reach == Reach::ThisMachine => {}
            Place::Git(git) => match git.versions().await {
                Err(cause) => wrong.push(cause.to_string()),
                Ok(versions) => {
                    for (version, commit) in versions {
                        self.take_tag(source, git, &version, &commit, &mut wrong).await;
                    }
                }
            },
        }
        let (this, from) = (Arc::clone(self), source.clone());
        let known = Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner));
        let listed = tokio::task::spawn_blocking(move || this.kept(&from, &known)).await;
        match listed {
            Err(cause) => wrong.push(cause.to_string()),
            Ok((releases, mut unreadable)) => {
                wrong.append(&mut unreadable);
                for release in releases {
                    wrong.extend(index.add(source, release).err());
                }
            }
        }
        wrong
    }

    /// Keeps what a source has.
    async fn take(
        self: &Arc<Self>,
        source: &Source,
        read: impl FnOnce() -> Result<Vec<Found>, String> + Send + 'static,
        wrong: &mut Vec<String>,
    ) {
        let (this, from) = (Arc::clone(self), source.clone());
        let taken = tokio::task::spawn_blocking(move || match read() {
            Err(cause) => vec![cause],
            Ok(found) => {
                found.into_iter().filter_map(|found| this.take_one(&from, found, None).err()).collect()
            }
        });
        wrong.extend(taken.await.unwrap_or_else(|cause| vec![cause.to_string()]));
    }

    /// Keeps what a tag of a repository has, unless it is known.
    async fn take_tag(
        self: &Arc<Self>,
        source: &Source,
        git: &GitSource,
        version: &Version,
        commit: &Commit,
        wrong: &mut Vec<String>,
    ) {
        let tag = (source.name.clone(), version.clone());
        if self.taken().commits.get(&tag) == Some(commit) {
            return;
        }
        let found = match git.files(commit).await {
            Ok(files) => Found { at: format!("tag {version}"), files: Ok(files) },
            Err(cause) => {
                wrong.push(format!("tag {version}: {cause}"));
                return;
            }
        };
        let (this, from, version) = (Arc::clone(self), source.clone(), version.clone());
        let taken = tokio::task::spawn_blocking(move || this.take_one(&from, found, Some(&version)).err());
        match taken.await.unwrap_or_else(|cause| Some(cause.to_string())) {
            Some(cause) => wrong.push(cause),
            None => drop(self.taken().commits.insert(tag, commit.clone())),
        }
    }

    /// Keeps a kit, if it is one.
    fn take_one(&self, source: &Source, found: Found, tag: Option<&Version>) -> Result<(), String> {
        let at = found.at;
        let told = |cause: String| format!("{at}: {cause}");
        let files = found.files.map_err(|cause| told(cause.to_string()))?;
        let content = (source.name.clone(), files.digest());
        if self.taken().contents.contains(&content) {
            return Ok(());
        }
        let kit = Kit::load(files).map_err(|findings| {
            let shown: Vec<_> = findings.iter().take(3).map(ToString::to_string).collect();
            let more = findings.len().saturating_sub(shown.len());
            told(format!(
                "{}{}",
                shown.join("; "),
                if more > 0 { format!("; and {more} more") } else { String::new() }
            ))
        })?;
        let Manifest { id, version, .. } = kit.manifest();
        if let Some(tag) = tag.filter(|tag| *tag != version) {
            return Err(told(format!("the tag is {tag}, and kit.yaml says {version}")));
        }
        self.keep.put(&source.name, id, version, kit.files()).map_err(|cause| told(cause.to_string()))?;
        let mut taken = self.taken();
        if taken.contents.len() >= RELEASES_MAX {
            taken.contents.clear(); // Then they are checked once more.
        }
        taken.contents.insert(content);
        Ok(())
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is kept of a source. What is known already is not read again: it never changes.
    fn kept(&self, source: &Source, known: &Index) -> (Vec<Arc<Release>>, Vec<String>) {
        let listed = match self.keep.list(&source.name) {
            Ok(listed) => listed,
            Err(cause) => return (Vec::new(), vec![cause.to_string()]),
        };
        let (mut releases, mut wrong) = (Vec::new(), Vec::new());
        for (id, version) in listed {
            let there = known.kits.get(&id).filter(|entry| entry.source == source.name);
            if let Some(release) = there.and_then(|entry| entry.releases.get(&version)) {
                releases.push(Arc::clone(release));
                continue;
            }
            match self.glance(source, &id, &version) {
                Ok(release) => releases.push(Arc::new(release)),
                Err(cause) => wrong.push(format!("{id} {version}: {cause}")),
            }
        }
        (releases, wrong)
    }

    /// A release that is kept: what was checked when it came is not checked again.
    fn glance(&self, source: &Source, id: &str, version: &Version) -> Result<Release, String> {
        let files = self.keep.find(&source.name, id, version).map_err(|cause| cause.to_string())?;
        let files = files.ok_or("is gone")?;
        let manifest = Manifest::of(&files).map_err(|finding| finding.to_string())?;
        if (manifest.id.as_str(), &manifest.version) != (id, version) {
            return Err(format!("is {} {}", manifest.id, manifest.version));
        }
        Ok(Release::new(manifest, files.digest(), source))
    }

    fn load(&self, source: &str, id: &str, version: &Version) -> Result<Loaded, String> {
        let archive = self.keep.archive(source, id, version).map_err(|cause| cause.to_string())?;
        let files = Files::from_tar_gz(archive.as_slice(), None)
            .map_err(|cause| format!("{id} {version}: {cause}"))?;
        let kit = Kit::load(files).map_err(|findings| {
            let first = findings.first().map(ToString::to_string).unwrap_or_default();
            format!("{id} {version}: {first}")
        })?;
        let archive_digest = Digest::of(&archive);
        Ok(Loaded { kit, archive: archive.into(), archive_digest })
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The kits that the viewer sees and that fit, by id, behind `after`; at most `limit`.
    pub(crate) fn list(
        &self,
        viewer: &Viewer,
        fits: impl Fn(&Release) -> bool,
        after: &str,
        limit: usize,
    ) -> Vec<(Arc<Release>, usize)> {
        let index = self.index();
        let behind = (std::ops::Bound::Excluded(after.to_owned()), std::ops::Bound::Unbounded);
        let seen = index.kits.range(behind).filter(|(_, entry)| viewer.sees(entry.organisation.as_ref()));
        seen.filter_map(|(_, entry)| Some((Arc::clone(entry.shown()?), entry.releases.len())))
            .filter(|(release, _)| fits(release))
            .take(limit)
            .collect()
    }

    /// The newest version of a kit that `ranges` allow, if the viewer may have it.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is no such kit for the viewer, or no such version.
    /// - [`Error::PlanInsufficient`] below the plan.
    pub(crate) fn resolve(&self, viewer: &Viewer, id: &str, ranges: &[VersionReq]) -> Result<Resolved> {
        let index = self.index();
        let entry = index.kits.get(id).filter(|entry| viewer.sees(entry.organisation.as_ref()));
        let entry = entry.ok_or_else(|| Error::not_found("kit", id))?;
        // Below the plan nobody is told which versions there are.
        if let Some(shown) = entry.shown() {
            let least = entry.releases.values().map(|release| release.needed_plan()).min();
            if least.is_some_and(|least| viewer.plan < least) {
                viewer.admit(shown)?;
            }
        }
        let release = entry.newest(ranges).ok_or_else(|| {
            let wanted: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            Error::not_found("version", format!("{} of kit {id}", wanted.join(" and ")))
        })?;
        viewer.admit(release)?;
        Ok(Resolved { release: Arc::clone(release), versions: entry.versions().cloned().collect() })
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
        let resolved = self.resolve(viewer, id, ranges)?;
        let loaded = self.whole(&resolved.release).await?;
        Ok(convert::kit(&resolved.release, &resolved.versions, &loaded.kit))
    }

    /// The kits that the viewer sees, by id; at most `limit`.
    pub fn summaries(&self, viewer: &Viewer, limit: usize) -> Vec<KitSummary> {
        let listed = self.list(viewer, |_| true, "", limit);
        listed.iter().map(|(release, count)| convert::summary(release, viewer, *count)).collect()
    }

    /// The whole kit of a release.
    ///
    /// # Errors
    /// - [`Error::Internal`] if what is kept cannot be read.
    pub(crate) async fn whole(self: &Arc<Self>, release: &Release) -> Result<Arc<Loaded>> {
        let Manifest { id, version, .. } = &release.manifest;
        let key = (id.clone(), version.clone());
        if let Some(loaded) = self.in_use.get(&key) {
            return Ok(loaded);
        }
        let (this, source) = (Arc::clone(self), release.source.clone());
        let (id, version) = key.clone();
        let loaded = tokio::task::spawn_blocking(move || this.load(&source, &id, &version)).await;
        let loaded = Arc::new(loaded.map_err(Error::internal)?.map_err(Error::internal)?);
        if *loaded.kit.digest() != release.digest {
            return Err(Error::internal(format!("{} {} is not what it was", key.0, key.1)));
        }
        self.in_use.insert(key, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The version of a kit for a spec, and the verdict on the spec. The version is the newest that `range` and the spec
    /// itself allow; what the spec says of it badly is for the verdict.
    ///
    /// # Errors
    /// - as for [`Registry::resolve`].
    pub(crate) async fn judge(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: &str,
        range: Option<VersionReq>,
        spec: String,
        strict: bool,
    ) -> Result<(Arc<Release>, Verdict)> {
        let (release, loaded, spec) = self.for_spec(viewer, id, range, spec).await?;
        let verdict = blocking(move || loaded.kit.validate(&spec, strict)).await?;
        Ok((release, verdict))
    }

    /// The release for a spec, and the whole kit of it.
    pub(crate) async fn for_spec(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: &str,
        range: Option<VersionReq>,
        spec: String,
    ) -> Result<(Arc<Release>, Arc<Loaded>, String)> {
        let (own, spec) = blocking(move || (range_of(&spec), spec)).await?;
        let named: Vec<VersionReq> = range.into_iter().collect();
        let both: Vec<VersionReq> = named.iter().cloned().chain(own).collect();
        // Where the spec allows none that there is, the verdict says so, with the place in the text.
        let resolved = match self.resolve(viewer, id, &both) {
            Err(Error::NotFound { kind: "version", .. }) => self.resolve(viewer, id, &named),
            resolved => resolved,
        };
        let release = resolved?.release;
        let loaded = self.whole(&release).await?;
        Ok((release, loaded, spec))
    }

    /// The version of a kit that a stack is pinned to: what `judge` finds, if nothing is wrong with the spec.
    ///
    /// # Errors
    /// - as for [`Registry::resolve`].
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
            Err(problems(&verdict.errors))
        }
    }
}

impl Index {
    /// Adds a release.
    fn add(&mut self, source: &Source, release: Arc<Release>) -> Result<(), String> {
        let Manifest { id, version, .. } = &release.manifest;
        if self.releases >= RELEASES_MAX {
            return Err(format!("{id} {version} is one of more than {RELEASES_MAX} releases"));
        }
        let entry = self.kits.entry(id.clone()).or_insert_with(|| Entry {
            source: source.name.clone(),
            organisation: source.organisation.clone(),
            releases: BTreeMap::new(),
        });
        if entry.source != source.name {
            return Err(format!("the kit {id} belongs to the source {}", entry.source));
        }
        if entry.releases.len() >= VERSIONS_MAX {
            return Err(format!("{id} {version} is one of more than {VERSIONS_MAX} versions"));
        }
        entry.releases.insert(version.clone(), release);
        self.releases += 1;
        Ok(())
    }
}

/// Every fault of a spec by its path behind "spec", as the answer has it.
pub(crate) fn problems(problems: &[Problem]) -> Error {
    let mut fields = BTreeMap::new();
    for problem in problems {
        let path = match problem.path.as_str() {
            "" => "spec".to_owned(),
            path => format!("spec.{path}"),
        };
        let Problem { at, code, message, hint, .. } = problem;
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        let told = format!("{code} at line {}, column {}: {message}{hint}", at.line, at.column);
        fields
            .entry(path)
            .and_modify(|known: &mut String| *known = format!("{known}. {told}"))
            .or_insert(told);
    }
    Error::Invalid(fields)
}

/// A range of versions; empty: every one.
///
/// # Errors
/// - [`Error::Invalid`] if it is none.
pub(crate) fn read_range(field: &str, text: &str) -> Result<Option<VersionReq>> {
    if text.is_empty() {
        return Ok(None);
    }
    let range = VersionReq::parse(text).map_err(|_| {
        Error::invalid(field, "must be a range of semver versions, for example ^1.0 or =1.2.3")
    })?;
    Ok(Some(range))
}

/// The range of versions that a spec names, if it names one.
fn range_of(spec: &str) -> Option<VersionReq> {
    let document = kombify_kit::read(spec, kombify_kit::SPEC_MAX_BYTES).ok()?;
    VersionReq::parse(document.get("version")?.as_str()?).ok()
}

/// Runs what computes for a while where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(Error::internal)
}
