//! The kits that there are: what every source has and ever had, found by id and by range of versions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use kombify_contracts::kombify::kits::v1::{Kit as KitMessage, KitSummary};
use kombify_core::{Error, OrgId, Plan, Result};
use kombify_kit::{Digest, Files, Kit, Manifest, Problem, Verdict, Version, VersionReq};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::gate::Viewer;
use crate::git::{Commit, GitSource};
use crate::keep::Keep;
use crate::source::{self, Found, Place, Source};

/// How many releases there may be, of all kits.
const RELEASES_MAX: usize = 20_000;

/// How long a look at one source may take.
const LOOK_WITHIN: Duration = Duration::from_mins(10);

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
    sources: Vec<Source>,
    keep: Keep,
    refresh: Duration,
    index: RwLock<Arc<Index>>,
    /// What each source was found to have, in the order of the sources; the index is made of it.
    parts: Mutex<Vec<Part>>,
    /// Whole kits, as they are used.
    in_use: Cache<Digest, Arc<Loaded>, ByWeight>,
    taken: Mutex<Taken>,
    /// How many specs are judged at once: each takes a core for itself.
    judging: Semaphore,
}

/// What one source was found to have.
#[derive(Debug, Default)]
struct Part {
    releases: Vec<Arc<Release>>,
    /// What was told of it, so that it is told once.
    told: BTreeSet<String>,
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
    /// To what is kept of them.
    Kept,
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
    /// The newest version that everything allows: a pre-release only where nothing else is there, or where it is named.
    fn newest(&self, allowed: &[VersionReq], may: impl Fn(&Release) -> bool) -> Option<&Arc<Release>> {
        let fits = |version: &Version, release: &Release| {
            allowed.iter().all(|range| range.matches(version)) && may(release)
        };
        let newest_first = || self.releases.iter().rev().filter(|(version, release)| fits(version, release));
        let stable = newest_first().find(|(version, _)| version.pre.is_empty());
        stable.or_else(|| newest_first().next()).map(|(_, release)| release)
    }

    /// The version that a list shows: the newest that the viewer may have, else the newest.
    fn shown(&self, viewer: &Viewer) -> Option<&Arc<Release>> {
        self.newest(&[], |release| viewer.may_have(release)).or_else(|| self.newest(&[], |_| true))
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

impl Weighter<Digest, Arc<Loaded>> for ByWeight {
    fn weight(&self, _: &Digest, loaded: &Arc<Loaded>) -> u64 {
        u64::try_from(loaded.archive.len() + loaded.kit.weight_bytes()).unwrap_or(u64::MAX).max(1)
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
            parts: Mutex::new(config.sources.iter().map(|_| Part::default()).collect()),
            in_use: Cache::with_weighter(256, IN_USE_MAX_BYTES, ByWeight),
            taken: Mutex::default(),
            judging: Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get)),
            sources: config.sources,
        })
    }

    /// Looks at each source, now and again and again until cancelled: none waits for another.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut looking = JoinSet::new();
        for place in 0..self.sources.len() {
            let this = Arc::clone(&self);
            looking.spawn(async move {
                loop {
                    this.look_at(place, Reach::Everything).await;
                    tokio::time::sleep(this.refresh).await;
                }
            });
        }
        cancel.cancelled().await;
        looking.shutdown().await;
    }

    /// Looks at what is kept of every source, and then at the sources, one after the other, and keeps what is new: so that an
    /// id stays with the source that had it first.
    pub async fn look(self: &Arc<Self>, reach: Reach) {
        for reach in [Reach::Kept, reach] {
            for place in 0..self.sources.len() {
                self.look_at(place, reach).await;
            }
        }
    }

    /// Looks at one source. What is wrong with it, or with one of its kits, is told in the log, once, and stands in nobody
    /// else's way.
    async fn look_at(self: &Arc<Self>, place: usize, reach: Reach) {
        let Some(source) = self.sources.get(place) else { return };
        let mut wrong = match tokio::time::timeout(LOOK_WITHIN, self.take_from(source, reach)).await {
            Ok(wrong) => wrong,
            Err(_) => vec![format!("it could not be looked at within {} s", LOOK_WITHIN.as_secs())],
        };
        let (this, from, known) = (Arc::clone(self), source.clone(), self.index());
        let kept = tokio::task::spawn_blocking(move || this.kept(&from, &known)).await;
        let (releases, mut unreadable) = match kept {
            Ok(Ok(kept)) => kept,
            // What was there is there still.
            Ok(Err(cause)) => {
                (self.parts().get(place).map(|part| part.releases.clone()).unwrap_or_default(), vec![cause])
            }
            Err(cause) => (Vec::new(), vec![cause.to_string()]),
        };
        wrong.append(&mut unreadable);
        let mut parts = self.parts();
        if let Some(part) = parts.get_mut(place) {
            part.releases = releases;
        }
        let (index, refused) = Index::of(&self.sources, &parts);
        wrong.extend(refused.into_iter().filter(|(of, _)| *of == place).map(|(_, cause)| cause));
        let wrong: BTreeSet<String> = wrong.into_iter().collect();
        if let Some(part) = parts.get_mut(place) {
            for problem in wrong.difference(&part.told) {
                tracing::warn!(source = source.name, problem, "not taken into the registry");
            }
            part.told = wrong;
        }
        drop(parts);
        let mut known = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if known.kits.len() != index.kits.len() {
            tracing::info!(kits = index.kits.len(), "kits are there");
        }
        *known = Arc::new(index);
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a source has anew; answers with what is wrong.
    async fn take_from(self: &Arc<Self>, source: &Source, reach: Reach) -> Vec<String> {
        let mut wrong = Vec::new();
        match &source.place {
            Place::BuiltIn(_) | Place::Directory(_) | Place::Git(_) if reach == Reach::Kept => {}
            Place::BuiltIn(contents) => {
                let contents = Arc::clone(contents);
                self.take(
                    source,
                    move |take| source::built_in(&contents).into_iter().for_each(take),
                    &mut wrong,
                )
                .await;
            }
            Place::Directory(path) => {
                let directory = path.clone();
                match blocking(move || source::directory(&directory)).await {
                    Ok(Ok(kits)) => {
                        let each = move |take: &mut dyn FnMut(Found)| {
                            for kit in &kits {
                                take(source::read(kit));
                            }
                        };
                        self.take(source, each, &mut wrong).await;
                    }
                    Ok(Err(cause)) => wrong.push(format!("{} cannot be read: {cause}", path.display())),
                    Err(cause) => wrong.push(cause.to_string()),
                }
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
        wrong
    }

    /// Keeps what a source has, one kit after the other.
    async fn take(
        self: &Arc<Self>,
        source: &Source,
        each: impl FnOnce(&mut dyn FnMut(Found)) + Send + 'static,
        wrong: &mut Vec<String>,
    ) {
        let (this, from) = (Arc::clone(self), source.clone());
        let taken = tokio::task::spawn_blocking(move || {
            let mut wrong = Vec::new();
            each(&mut |found| wrong.extend(this.take_one(&from, found, None).err()));
            wrong
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
        let index = self.index();
        if let Some(owner) =
            index.kits.get(id).map(|entry| &entry.source).filter(|owner| **owner != source.name)
        {
            return Err(told(format!("the kit {id} belongs to the source {owner}")));
        }
        if index.releases >= RELEASES_MAX {
            return Err(told(format!("there are {RELEASES_MAX} releases already")));
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
    fn kept(&self, source: &Source, known: &Index) -> Result<(Vec<Arc<Release>>, Vec<String>), String> {
        let listed = self.keep.list(&source.name).map_err(|cause| cause.to_string())?;
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
        Ok((releases, wrong))
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
        let files =
            Files::from_tar_gz(archive.as_slice()).map_err(|cause| format!("{id} {version}: {cause}"))?;
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
        seen.filter_map(|(_, entry)| Some((Arc::clone(entry.shown(viewer)?), entry.releases.len())))
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
        // The newest that the plan has; where it has none, the newest says which plan it takes.
        let may = |release: &Release| viewer.may_have(release);
        let release =
            entry.newest(ranges, may).or_else(|| entry.newest(ranges, |_| true)).ok_or_else(|| {
                let wanted: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                Error::not_found("version", format!("{} of kit {id}", wanted.join(" and ")))
            })?;
        viewer.admit(release)?;
        let there = entry.releases.iter().rev().filter(|(_, release)| viewer.may_have(release));
        Ok(Resolved {
            release: Arc::clone(release),
            versions: there.map(|(version, _)| version.clone()).collect(),
        })
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
    /// The index of what is kept of the sources. Where two of them have an id, as after a change of the configuration, it belongs
    /// to the first of them. Answers with what is not taken, too, and of
    /// which source it is.
    fn of(sources: &[Source], parts: &[Part]) -> (Self, Vec<(usize, String)>) {
        let (mut index, mut refused) = (Self::default(), Vec::new());
        for (place, (source, part)) in sources.iter().zip(parts).enumerate() {
            for release in &part.releases {
                refused.extend(index.add(source, release).err().map(|cause| (place, cause)));
            }
        }
        (index, refused)
    }

    fn add(&mut self, source: &Source, release: &Arc<Release>) -> Result<(), String> {
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
        entry.releases.insert(version.clone(), Arc::clone(release));
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
    let wrong = || Error::invalid(field, "must be a range of semver versions, for example ^1.0 or 1.2.3");
    kombify_kit::read_range(text).map(Some).ok_or_else(wrong)
}

/// The range of versions that a spec names, if it names one.
fn range_of(spec: &str) -> Option<VersionReq> {
    let document = kombify_kit::read(spec, kombify_kit::SPEC_MAX_BYTES).ok()?;
    kombify_kit::read_range(document.get("version")?.as_str()?)
}

/// Runs what computes for a while where it holds up nobody.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(Error::internal)
}
