//! The validator finds whatever is wrong with a migrated target, and nothing besides.
//!
//! `REGRAFT_TEST_MUTATIONS` is the number of things that are corrupted (500 if not set),
//! `REGRAFT_TEST_SEED` repeats what was printed.

#![allow(clippy::print_stderr, reason = "a test prints its seed")]

use std::collections::BTreeSet;

use regraft_engine::{Method, ValidationOptions};
use regraft_testkit::{
    Class, Dice, Ground, Legacy, Program, RandomProject, Rehearsal, Round, Servers, dispatch,
};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

/// Things to be corrupted by all tests of this file.
fn mutations() -> usize {
    let given = std::env::var("REGRAFT_TEST_MUTATIONS").ok();
    given.map_or(500, |text| {
        text.parse().expect("REGRAFT_TEST_MUTATIONS is a number")
    })
}

/// Classes in the order of chance, all of them as often as each other.
fn classes(count: usize, dice: &mut Dice) -> Vec<Class> {
    let mut classes = Vec::new();
    while classes.len() < count {
        let mut all = Class::ALL.to_vec();
        while !all.is_empty() {
            let next = dice.below(all.len() as u64);
            classes.push(all.swap_remove(usize::try_from(next).expect("a small number")));
        }
    }
    classes.truncate(count);
    classes
}

const LEGACY: Legacy = Legacy {
    scale: 0.02,
    seed: 5,
    dirt: 1.0,
};

/// A dispatch migration with the generator's usual dirt.
fn migrated(entities: &[&str]) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), LEGACY);
    // Notifications are as many as all other rows together, and no other than each other.
    rehearsal.legacy("delete from dispatch_notification where id % 40 <> 0");
    let mut arguments = vec!["migrate"];
    arguments.extend(entities);
    arguments.push("--with-deps");
    let finished = Program::on(REGRAFT, &rehearsal)
        .with("BATCH_SIZE", "400")
        .run(&arguments);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    rehearsal
}

/// Strikes `count` times in rounds of `size`, each round on a copy of its own; gives the classes
/// that were struck.
fn rounds(
    rehearsal: &Rehearsal<'_>,
    entities: &[&str],
    (count, size): (usize, usize),
    dice: &mut Dice,
) -> BTreeSet<Class> {
    let ground = Ground::new(rehearsal, &rehearsal.validate(entities, &options(0)));
    let (mut struck, mut done, mut number) = (BTreeSet::new(), 0, 0);
    while done < count {
        let copy = rehearsal.copied();
        let mut round = Round::new(&ground, copy.modern_url());
        let size = size.min(count - done);
        // A class that finds nothing left to corrupt gives its turn to others.
        for _ in 0..10 {
            let left = size - round.classes().count();
            round.strike(&classes(left, dice), dice);
        }
        assert!(round.classes().count() > 0, "nothing can be corrupted");
        number += 1;
        hold(&round, &copy, (entities, number), dice);
        done += round.classes().count();
        struck.extend(round.classes());
    }
    struck
}

/// Rows are compared one by one and by sums, in turns.
fn options(number: usize) -> ValidationOptions {
    Round::options([Method::Stream, Method::Sums][number % 2])
}

/// Validates what was corrupted.
#[track_caller]
fn hold(round: &Round<'_>, copy: &Rehearsal<'_>, at: (&[&str], usize), dice: &Dice) {
    let options = options(at.1);
    let faults = round.faults(&copy.validate(at.0, &options));
    assert!(
        faults.is_empty(),
        "REGRAFT_TEST_SEED={}, {} struck, {:?}:\n{}",
        dice.seed(),
        round.classes().count(),
        options.method,
        faults.join("\n")
    );
}

#[test]
fn whatever_is_wrong_with_the_core_is_found() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let entities = ["orders"];
    let rehearsal = migrated(&entities);
    let count = mutations() * 3 / 10;
    rounds(&rehearsal, &entities, (count, 24), &mut dice);
}

/// Each alone, so that no finding can hide behind another.
#[test]
fn each_class_alone_is_found() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let entities = ["orders"];
    let rehearsal = migrated(&entities);
    let ground = Ground::new(&rehearsal, &rehearsal.validate(&entities, &options(0)));
    ground.keep(&rehearsal);
    let mut round = Round::new(&ground, rehearsal.modern_url());
    for (number, class) in classes(mutations() / 10, &mut dice).into_iter().enumerate() {
        if round.strike(&[class], &mut dice).is_empty() {
            hold(&round, &rehearsal, (&entities, number), &dice);
            round.undo();
        }
    }
    let validation = rehearsal.validate(&entities, &options(0));
    assert!(
        validation.passed,
        "everything was taken back: {validation:?}"
    );
}

/// Random projects have columns of every type. What is wrong with the values and references of one
/// is found by the oracle too: neither the validator nor the oracle says yes to everything.
#[test]
fn whatever_is_wrong_with_random_projects_is_found() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let count = mutations() / 5;
    let (mut done, mut number, mut struck) = (0, 0, BTreeSet::new());
    let all_struck = |struck: &BTreeSet<Class>| NOT_IN_DISPATCH.iter().all(|c| struck.contains(c));
    // Not every project has a column of every type.
    while done < count || (count >= 100 && number < 60 && !all_struck(&struck)) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let project = RandomProject::new(dice.roll());
        project.write(folder.path());
        let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
        Program::on(REGRAFT, &rehearsal).expect(0, &["migrate"]);
        let ground = Ground::new(&rehearsal, &rehearsal.validate(&[], &options(0)));
        let mut round = Round::new(&ground, rehearsal.modern_url());
        for _ in 0..3 {
            round.strike(&NOT_IN_DISPATCH, &mut dice);
        }
        round.strike(&classes(40, &mut dice), &mut dice);
        number += 1;
        hold(&round, &rehearsal, (&[], number), &dice);
        let is_of_the_oracle = |class: &Class| *class < Class::DuplicatedRow;
        let judged = project.judge(&rehearsal);
        let seed = project.seed();
        assert!(
            !judged.is_empty() || !round.classes().any(|class| is_of_the_oracle(&class)),
            "the oracle of {seed} is content with it"
        );
        done += round.classes().count();
        struck.extend(round.classes());
    }
    assert!(count < 100 || all_struck(&struck), "only {struck:?}");
}

/// Classes for which dispatch has no column; the random schemas have them.
const NOT_IN_DISPATCH: [Class; 3] = [Class::NullForEmpty, Class::Byte, Class::ArrayElement];

#[test]
fn whatever_is_wrong_with_the_whole_is_found() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let rehearsal = migrated(&[]);
    let count = mutations();
    let here = count - count * 3 / 10 - count / 10 - count / 5;
    let struck = rounds(&rehearsal, &[], (here, 76), &mut dice);
    if count >= 500 {
        let missed = Class::ALL
            .into_iter()
            .filter(|class| !struck.contains(class));
        assert_eq!(
            missed.collect::<Vec<_>>(),
            NOT_IN_DISPATCH,
            "classes without a mutation"
        );
    }
}
