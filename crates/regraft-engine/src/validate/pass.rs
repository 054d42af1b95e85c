//! One pass over the rows that both databases have, in the order of the legacy ids: each mapped
//! column against what recomputing it gives, and each reference between its mapped ends.

use regraft_pg::Session;

use super::columns::Compared;
use super::databases::Databases;
use super::edge::Reference;
use super::expectation::Expectation;
use super::extent::Extent;
use super::references::Followed;
use super::rows::{Meeting, Merge, Parts, Rows};
use super::subject::{KeptRows, Subject};
use crate::error::Result;

/// What is looked at in each row.
pub(super) struct Pass<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) references: &'a [Reference<'a>],
    pub(super) columns: &'a [Expectation<'a>],
    pub(super) extent: &'a Extent,
}

/// What a pass came to.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) followed: Followed,
    pub(super) compared: Compared,
}

impl Pass<'_> {
    /// The same about references alone.
    pub(super) fn without_columns(&self) -> Self {
        Self {
            columns: &[],
            ..*self
        }
    }

    /// The same about columns alone.
    pub(super) fn without_references(&self) -> Self {
        Self {
            references: &[],
            ..*self
        }
    }

    /// Goes over all rows that both databases have; those that only one has are the account's
    /// business.
    pub(super) async fn run(&self, databases: &Databases<'_>) -> Result<Passed> {
        if self.references.is_empty() && self.columns.is_empty() {
            return Ok(Passed::default());
        }
        let session = databases.source().await?;
        let passed = self.run_over(databases, &session).await?;
        databases.give_back(session);
        Ok(passed)
    }

    async fn run_over(&self, databases: &Databases<'_>, session: &Session) -> Result<Passed> {
        let list = self.source_list();
        let fields = list.len() + 1;
        let kept = KeptRows::new(self.subject, list, self.extent, &databases.lookup);
        let source = Rows::new(session, Parts::Kept(kept), fields);
        let (query, width) = self.target_query();
        let target = Rows::new(&databases.target, Parts::One(Some(query)), width);
        let mut merge = Merge::new(source, target, self.subject.numeric);
        let mut passed = Passed::default();
        while let Some(meeting) = merge.next().await? {
            if meeting != Meeting::Both {
                continue;
            }
            let fields = passed.followed.row(&merge, self.references);
            passed.compared.row(&merge, self.columns, fields);
            if passed.followed.must_look_up() {
                let followed = &mut passed.followed;
                followed
                    .settle(databases, self.subject, self.references)
                    .await?;
            }
        }
        let followed = &mut passed.followed;
        followed
            .settle(databases, self.subject, self.references)
            .await?;
        Ok(passed)
    }

    /// What is selected from the source beside the legacy id: the references, then the columns.
    fn source_list(&self) -> Vec<String> {
        let references = self.references.iter().flat_map(Reference::source_list);
        let columns = self.columns.iter().filter_map(|e| e.source.clone());
        references.chain(columns).collect()
    }

    /// The mapped rows of the target under their legacy ids, with the references, then the columns;
    /// and the number of fields.
    fn target_query(&self) -> (String, usize) {
        let subject = self.subject;
        let id = subject.ledger_id("m");
        let (mut list, mut joins, mut width) = (id.clone(), String::new(), 1);
        for (i, reference) in self.references.iter().enumerate() {
            let (selected, joined) = reference.target_list(subject, i);
            list.push_str(&selected);
            joins.push_str(&joined);
            width += reference.target_width();
        }
        for expectation in self.columns {
            list.push_str(", ");
            list.push_str(&expectation.target);
            width += 1;
        }
        let query = format!(
            "select {list} from {} m join {} t on t.{} = m.new_id{joins}\nwhere true{}\norder by {id}",
            subject.mappings(),
            subject.table_name,
            subject.key_column(),
            self.extent.and(subject.numeric, &id),
        );
        (query, width)
    }
}
