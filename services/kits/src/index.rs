//! What is known of every kit, for lists and to find the version that a viewer may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kombify_core::{Error, OrgId, Plan, Result};
use kombify_kit::{Digest, Manifest, Version, VersionReq};

use crate::gate::Viewer;
use crate::source::Source;

/// How many releases there may be, of all kits.
pub(crate) const RELEASES_MAX: usize = 20_000;

/// What is known of every kit.
#[derive(Debug, Default)]
pub(crate) struct Index {
    kits: BTreeMap<String, Entry>,
    releases: usize,
}

/// One kit.
#[derive(Debug)]
struct Entry {
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
    pub(crate) source: String,
    is_custom: bool,
}

/// A release with the versions beside it.
pub(crate) struct Resolved {
    pub(crate) release: Arc<Release>,
    pub(crate) versions: Vec<Version>,
}

/// What one source was found to have.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) releases: Vec<Arc<Release>>,
    /// What was told of it, so that it is told once.
    pub(crate) told: BTreeSet<String>,
}

impl Index {
    /// The index of what is kept of the sources. Where two of them have an id, as after a change of the configuration, it
    /// belongs to the first of them. Answers with what is not taken, too, and of which source it is.
    pub(crate) fn of(sources: &[Source], parts: &[Part]) -> (Self, Vec<(usize, String)>) {
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
        if self.is_full() {
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

    /// How many kits there are.
    pub(crate) fn kit_count(&self) -> usize {
        self.kits.len()
    }

    /// Whether there is room for no more.
    pub(crate) fn is_full(&self) -> bool {
        self.releases >= RELEASES_MAX
    }

    /// The source that a kit belongs to.
    pub(crate) fn source_of(&self, id: &str) -> Option<&str> {
        self.kits.get(id).map(|entry| entry.source.as_str())
    }

    /// A version of a kit of this source.
    pub(crate) fn release(&self, source: &str, id: &str, version: &Version) -> Option<&Arc<Release>> {
        self.kits.get(id).filter(|entry| entry.source == source)?.releases.get(version)
    }

    /// The kits that the viewer sees and that fit, by id, behind `after`; at most `limit`.
    pub(crate) fn list(
        &self,
        viewer: &Viewer,
        fits: impl Fn(&Release) -> bool,
        after: &str,
        limit: usize,
    ) -> Vec<(Arc<Release>, usize)> {
        let behind = (std::ops::Bound::Excluded(after.to_owned()), std::ops::Bound::Unbounded);
        let seen = self.kits.range(behind).filter(|(_, entry)| viewer.sees(entry.organisation.as_ref()));
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
        let entry = self.kits.get(id).filter(|entry| viewer.sees(entry.organisation.as_ref()));
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

impl Release {
    pub(crate) fn new(manifest: Manifest, digest: Digest, source: &Source) -> Self {
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
