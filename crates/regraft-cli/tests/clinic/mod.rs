//! A project so small that every number of its plan is known by hand.

use regraft_testkit::{ProjectFolder, manifest};

const SOURCE: &str = "
create table doctor (id integer primary key, name text, active boolean not null, mentor integer);
create table patient (id integer primary key, doctor integer, status integer, archived boolean not null);
create view patients_seen as select * from patient;
create table comment (id integer, patient integer, text text, kind integer, on_type text, on_id integer)
  partition by range (id);
create table comment_low partition of comment for values from (0) to (20);
create table comment_high partition of comment for values from (20) to (1000);
create table log (id integer) partition by list (id);
create table log_1 partition of log for values in (1);
create table leftover (id integer);
";

/// Doctors 1 to 10, patients 1 to 20, comments 1 to 40.
const DATA: &str = "
insert into doctor
select i, case when i <> 8 then 'D' || i end, i < 9,
       case i when 2 then 1 when 3 then 2 when 4 then 9 when 5 then 8 when 6 then 50 end
from generate_series(1, 10) i;
insert into patient
select i, case when i <= 18 then 1 + (i - 1) % 10 when i = 20 then 99 end,
       case when i = 5 then 7 else 1 + i % 2 end, i = 3
from generate_series(1, 20) i;
insert into comment
select i, case when i = 40 then 77 else 1 + (i - 1) % 20 end, case when i <> 2 then 'C' else '' end,
       case i % 4 when 3 then 9 when 0 then null else i % 4 end,
       case when i <= 10 then 'doctor' when i <= 20 then 'patient' when i <= 25 then 'planet' end,
       case when i <= 10 then i when i <= 20 then i - 10 when i <= 25 then 1 end
from generate_series(1, 40) i;
insert into log values (1);
";

const TARGET: &str = "
create type patient_status as enum ('new', 'known', 'gone');
create table doctors (id uuid primary key, name text not null, mentor_id uuid references doctors, legacy_id integer unique);
create table patients (id uuid primary key, doctor_id uuid not null references doctors,
  status patient_status not null, legacy_id integer unique);
create table comments (id uuid primary key, patient_id uuid not null references patients,
  text text constraint text_given check (text <> ''), kind text, about_id uuid, legacy_id integer unique);
";

const DOCTORS: &str = r#"
[source]
from = "doctor d"
key = "d.id"
[[source.filter]]
name = "inactive"
keep = "d.active"
[target]
table = "doctors"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "d.name"
mentor_id = { ref = "doctors", from = "d.mentor", missing = "null" }
"#;

const PATIENTS: &str = r#"
[source]
from = "patients_seen p"
key = "p.id"
[[source.filter]]
name = "archived"
keep = "not p.archived"
[[source.filter]]
name = "nobody"
keep = "p.id > 0"
[target]
table = "patients"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
doctor_id = { ref = "doctors", from = "p.doctor" }
status = { from = "p.status", map = { 1 = "new", 2 = "known", 3 = "gone" } }
"#;

const COMMENTS: &str = r#"
[source]
from = "comment c"
key = "c.id"
[target]
table = "comments"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
patient_id = { ref = "patients", from = "c.patient" }
text = "c.text"
kind = { from = "c.kind", map = { 1 = "note", 2 = "call", 5 = "visit" }, null = "none", otherwise = "other" }
about_id = { ref_by = "c.on_type", cases = { doctor = "doctors", patient = "patients" }, from = "c.on_id", missing = "null" }
"#;

/// The project.
pub(crate) fn clinic() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("clinic", "100%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/doctors.toml", DOCTORS),
        ("entities/patients.toml", PATIENTS),
        ("entities/comments.toml", COMMENTS),
    ])
}
