//! How the registry comes to its kits: it looks at its sources, keeps every version as it came first, and makes its index of
//! what is kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use kombify_kit::{Digest, Kit, Manifest, Version};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::git::{Commit, GitSource};
use crate::index::{Index, Part, RELEASES_MAX, Release};
use crate::registry::{Registry, blocking};
use crate::source::{self, Found, Place, Source};

/// How long a look at one source may take.
const LOOK_WITHIN: Duration = Duration::from_mins(10);

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

/// What was taken already, and need not be checked and kept again: it never changes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The contents of each source.
    contents: HashSet<(String, Digest)>,
    /// The commit that each tag of each source was, when it was taken.
    commits: HashMap<(String, Version), Commit>,
}

impl Registry {
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
        if known.kit_count() != index.kit_count() {
            tracing::info!(kits = index.kit_count(), "kits are there");
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
        if let Some(owner) = index.source_of(id).filter(|owner| *owner != source.name) {
            return Err(told(format!("the kit {id} belongs to the source {owner}")));
        }
        if index.is_full() {
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
            if let Some(release) = known.release(&source.name, &id, &version) {
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
}
