-- The target of the dispatch project: what the laboratory works with and works on. It
-- builds on target/schema.sql.
--
-- Where the evidence on the old target conflicts, one design was chosen:
--
--   * products.legacy_course_id, which held product ids and was joined with courses, is
--     legacy_product_id; a product's course is a reference.
--   * technicians has no names, address and telephone: they live in profiles.
--     technician_roles.technician_id holds technicians.id, not profiles.id.
--   * cases.primary_doctor_id may be NULL, like that of the patient: the old NOT NULL was
--     answered with the first doctor of the table.
--   * projects.creator_id may be NULL: the old NOT NULL was answered with a system user.
--   * treatment_plans has no patient and doctor of its own (they were profiles.id in the
--     old target, and always NULL): both are those of the order. Several plans may share a
--     project; a legacy plan is there once.
--   * tasks.order_id may be NULL: the legacy system has tasks of no order.
--   * files has no order_id: what belongs to which order is told by order_files alone, so
--     that a file may belong to several and none waits for its order.
--   * order_states is a state per row (code, on or off, who, when), not a pair of order
--     statuses that would have to be invented; case_states the same. Neither has a previous
--     state: it follows from changed_at, per order.
--   * brackets has no material, manufacturer, slot and arch: the old values were guessed
--     from names.

create type case_status as enum
    ('consultation', 'diagnosis', 'treatment_plan', 'active', 'refinement', 'retention',
     'completed', 'cancelled', 'on_hold', 'transferred', 'revision',
     -- Not in the old target, where archived patients had cases that were `transferred`.
     'archived');
create type project_type as enum
    ('stl_upper', 'stl_lower', 'clinical_photo', 'treatment_plan', 'xray', 'cbct_scan',
     'simulation', 'aligner_design', 'other');
create type project_status as enum ('draft', 'in_progress', 'completed', 'archived');
create type jaw_type as enum ('upper', 'lower');
create type jaw_replacement_reason as enum ('breakage', 'other', 'complete');
create type task_status as enum ('pending', 'in_progress', 'completed');
create type order_state as enum
    ('review_approval', 'processing', 'manufacturing', 'shipped', 'delivered', 'completed',
     'cancelled', 'on_hold', 'returned', 'refunded');
create type case_state as enum ('treatment_active', 'case_closed');
create type technician_type as enum
    ('designing', 'manufacturing', 'master', 'quality_control', 'remote', 'sectioning');
create type employment_status as enum ('active', 'inactive', 'terminated', 'on_leave');

create table teams (
    id              uuid primary key default gen_random_uuid(),
    name            text not null unique,
    -- The legacy system has no kinds of groups; the application fills it.
    team_type       text,
    created_at      timestamptz default now(),
    updated_at      timestamptz not null default now(),
    legacy_group_id integer unique
);

create table products (
    id                uuid primary key default gen_random_uuid(),
    name              text not null,
    description       text,
    course_id         uuid not null references courses (id),
    course_type       course_type not null,
    is_free           boolean not null,
    base_price        numeric(10, 2),
    is_substitute     boolean not null default false,
    is_active         boolean not null,
    customization     jsonb,
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_product_id integer unique,
    constraint free_costs_nothing check (not is_free or base_price = 0)
);
create index products_course_id_idx on products (course_id);

create table cases (
    id                uuid primary key default gen_random_uuid(),
    case_number       text not null unique,
    patient_id        uuid not null references patients (id),
    primary_doctor_id uuid references doctors (id),
    office_id         uuid references offices (id),
    status            case_status not null,
    archived          boolean not null default false,
    suspended         boolean not null default false,
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_updated_at timestamptz,
    legacy_patient_id integer unique
);
create index cases_patient_id_idx on cases (patient_id);
create index cases_primary_doctor_id_idx on cases (primary_doctor_id);
create index cases_office_id_idx on cases (office_id);

create table order_cases (
    id                    uuid primary key default gen_random_uuid(),
    order_id              uuid not null references orders (id),
    case_id               uuid not null references cases (id),
    relationship_type     text not null default 'primary',
    created_at            timestamptz default now(),
    legacy_instruction_id integer unique,
    unique (order_id, case_id)
);
create index order_cases_case_id_idx on order_cases (case_id);

create table patients_doctors_offices (
    id                uuid primary key default gen_random_uuid(),
    patient_id        uuid not null references patients (id),
    doctor_id         uuid not null references doctors (id),
    office_id         uuid references offices (id),
    created_at        timestamptz default now(),
    legacy_patient_id integer unique,
    unique (patient_id, doctor_id, office_id)
);
create index patients_doctors_offices_doctor_id_idx on patients_doctors_offices (doctor_id);
create index patients_doctors_offices_office_id_idx on patients_doctors_offices (office_id);

create table projects (
    id                uuid primary key default gen_random_uuid(),
    name              text,
    project_type      project_type not null,
    status            project_status not null,
    creator_id        uuid references profiles (id),
    file_uid          text not null,
    file_size_bytes   bigint not null,
    is_public         boolean not null default false,
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_project_id integer unique,
    constraint file_size_not_negative check (file_size_bytes >= 0)
);
create index projects_creator_id_idx on projects (creator_id);

create table treatment_plans (
    id                    uuid primary key default gen_random_uuid(),
    project_id            uuid not null references projects (id),
    order_id              uuid references orders (id),
    plan_number           integer,
    plan_name             text,
    plan_notes            text,
    is_original           boolean not null,
    metadata              jsonb not null default '{}',
    created_at            timestamptz default now(),
    updated_at            timestamptz not null default now(),
    legacy_plan_id        integer unique,
    legacy_instruction_id integer
);
create index treatment_plans_project_id_idx on treatment_plans (project_id);
create index treatment_plans_order_id_idx on treatment_plans (order_id);

create table files (
    id              uuid primary key default gen_random_uuid(),
    file_uid        text not null,
    filename        text,
    file_type       text,
    mime_type       text,
    file_size_bytes bigint not null,
    product_id      uuid references products (id),
    parameters      jsonb,
    uploaded_at     timestamptz,
    metadata        jsonb not null default '{}',
    created_at      timestamptz default now(),
    updated_at      timestamptz not null default now(),
    -- Codes of the legacy system whose meaning nobody knows.
    legacy_type     smallint,
    legacy_status   smallint,
    legacy_file_id  integer unique,
    constraint size_not_negative check (file_size_bytes >= 0)
);
create index files_product_id_idx on files (product_id) where product_id is not null;

create trigger teams_updated_at before update on teams
    for each row execute function update_updated_at_column();
create trigger products_updated_at before update on products
    for each row execute function update_updated_at_column();
create trigger cases_updated_at before update on cases
    for each row execute function update_updated_at_column();
create trigger projects_updated_at before update on projects
    for each row execute function update_updated_at_column();
create trigger treatment_plans_updated_at before update on treatment_plans
    for each row execute function update_updated_at_column();
create trigger files_updated_at before update on files
    for each row execute function update_updated_at_column();
