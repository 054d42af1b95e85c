//! What a validation has to find, and what it found.

use std::collections::BTreeMap;

use regraft_engine::Validation;

use super::Strike;

/// What a validation has to report of a strike.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) entity: String,
    pub(super) check: &'static str,
    /// The column, for findings that begin with one; else a part of what they say.
    pub(super) place: String,
    /// The legacy id that it names; `None` for a finding about figures.
    pub(super) id: Option<String>,
    /// What else it says.
    pub(super) says: String,
}

impl Expected {
    /// A finding about one row.
    pub(super) fn of_row(
        entity: &str,
        check: &'static str,
        place: &str,
        id: &str,
        says: &str,
    ) -> Self {
        Self {
            entity: entity.to_owned(),
            check,
            place: place.to_owned(),
            id: Some(id.to_owned()),
            says: says.to_owned(),
        }
    }

    fn matches(&self, found: &Found) -> bool {
        self.entity == found.entity
            && self.check == found.check
            && self.id == found.id
            && found.what.contains(&self.says)
            && match found.what.strip_prefix('`') {
                Some(rest) => rest.split('`').next() == Some(&self.place),
                None => found.what.contains(&self.place),
            }
    }
}

/// One row that a finding names, or a finding about figures.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    entity: String,
    check: String,
    what: String,
    id: Option<String>,
}

pub(super) fn faults(strikes: &[Strike], validation: &Validation) -> Vec<String> {
    let mut faults = Vec::new();
    let mut found = Vec::new();
    for entity in &validation.entities {
        for check in &entity.checks {
            for finding in &check.findings {
                let of = |id: Option<String>| Found {
                    entity: entity.entity.clone(),
                    check: check.name.to_owned(),
                    what: finding.what.clone(),
                    id,
                };
                if finding.examples.is_empty() {
                    found.push(of(None));
                } else if finding.examples.len() as u64 != finding.rows {
                    faults.push(format!(
                        "more rows than were struck: {:?} {}",
                        of(None),
                        finding.rows
                    ));
                }
                found.extend(finding.examples.iter().map(|id| of(Some(id.clone()))));
            }
        }
    }
    if validation.passed == strikes.iter().any(|_| true) {
        faults.push(format!("the verdict is {}", validation.passed));
    }
    let mut repeated: BTreeMap<&Found, u32> = BTreeMap::new();
    for one in &found {
        *repeated.entry(one).or_default() += 1;
        let explained = strikes
            .iter()
            .flat_map(|strike| &strike.expected)
            .any(|expected| expected.matches(one));
        if !explained {
            faults.push(format!("found, and not struck: {one:?}"));
        }
    }
    let twice = repeated.iter().filter(|(_, times)| **times > 1);
    faults.extend(twice.map(|(one, _)| format!("told twice: {one:?}")));
    for strike in strikes {
        for expected in &strike.expected {
            if !found.iter().any(|one| expected.matches(one)) {
                faults.push(format!(
                    "struck, and not found: {:?} {}: {expected:?}",
                    strike.class, strike.what
                ));
            }
        }
    }
    faults
}
