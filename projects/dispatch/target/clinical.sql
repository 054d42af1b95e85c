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

create table categories (
    id                 uuid primary key default gen_random_uuid(),
    name               text not null,
    parent_id          uuid references categories (id),
    metadata           jsonb not null default '{}',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_category_id integer unique,
    constraint category_not_under_itself check (parent_id <> id)
);
create index categories_parent_id_idx on categories (parent_id);

create table roles (
    id             uuid primary key default gen_random_uuid(),
    name           text not null,
    abbreviation   text,
    display_order  integer not null default 0,
    team_id        uuid references teams (id),
    profile_id     uuid references profiles (id),
    metadata       jsonb not null default '{}',
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_role_id integer unique
);
create index roles_team_id_idx on roles (team_id);
create index roles_profile_id_idx on roles (profile_id);

-- `permission` is what a program asks for (change_patient), `resource` what it is about
-- (dispatch.patient). The old table had the title in the one and the first in the other.
create table role_permissions (
    id                        uuid primary key default gen_random_uuid(),
    role_id                   uuid not null references roles (id),
    permission                text not null,
    resource                  text not null,
    description               text,
    created_at                timestamptz default now(),
    legacy_role_permission_id integer unique,
    unique (role_id, resource, permission)
);

create table technicians (
    id             uuid primary key default gen_random_uuid(),
    profile_id     uuid not null unique references profiles (id),
    -- No source: the old numbers were user names, the old dates those of the account.
    employee_id    varchar(50) unique,
    specialty      text,
    hire_date      date,
    status         employment_status not null,
    metadata       jsonb not null default '{}',
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_user_id integer unique
);

create table technician_roles (
    id             uuid primary key default gen_random_uuid(),
    role_id        uuid not null unique references roles (id),
    technician_id  uuid references technicians (id),
    role_name      text not null,
    abbreviation   text,
    -- Somebody has to say it; suggested_type is a guess from the abbreviation.
    role_type      technician_type,
    suggested_type text,
    assigned_at    timestamptz,
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_role_id integer unique,
    constraint suggested_type_is_known
        check (suggested_type in ('designing', 'manufacturing', 'master', 'quality_control', 'remote', 'sectioning'))
);
create index technician_roles_technician_id_idx on technician_roles (technician_id);

create table templates (
    id                         uuid primary key default gen_random_uuid(),
    name                       text,
    action_name                text,
    text_name                  text,
    category_id                uuid references categories (id),
    function_name              text,
    is_active                  boolean not null,
    estimated_duration_minutes integer,
    is_predefined              boolean not null,
    is_read_only               boolean not null,
    is_separate                boolean not null,
    extensions                 text,
    alerts                     text,
    metadata                   jsonb not null default '{}',
    created_at                 timestamptz default now(),
    updated_at                 timestamptz not null default now(),
    legacy_template_id         integer unique
);
create index templates_category_id_idx on templates (category_id);

create table template_products (
    id          uuid primary key default gen_random_uuid(),
    template_id uuid not null references templates (id),
    product_id  uuid not null references products (id),
    created_at  timestamptz default now(),
    legacy_id   integer unique,
    unique (template_id, product_id)
);
create index template_products_product_id_idx on template_products (product_id);

create table template_view_groups (
    id          uuid primary key default gen_random_uuid(),
    template_id uuid not null references templates (id),
    team_id     uuid not null references teams (id),
    created_at  timestamptz default now(),
    legacy_id   integer unique,
    unique (template_id, team_id)
);
create index template_view_groups_team_id_idx on template_view_groups (team_id);

create table template_view_roles (
    id          uuid primary key default gen_random_uuid(),
    template_id uuid not null references templates (id),
    role_id     uuid not null references roles (id),
    created_at  timestamptz default now(),
    legacy_id   integer unique,
    unique (template_id, role_id)
);
create index template_view_roles_role_id_idx on template_view_roles (role_id);

create table template_edit_roles (
    id          uuid primary key default gen_random_uuid(),
    template_id uuid not null references templates (id),
    role_id     uuid not null references roles (id),
    created_at  timestamptz default now(),
    legacy_id   integer unique,
    unique (template_id, role_id)
);
create index template_edit_roles_role_id_idx on template_edit_roles (role_id);

create table template_predecessors (
    id             uuid primary key default gen_random_uuid(),
    template_id    uuid not null references templates (id),
    predecessor_id uuid not null references templates (id),
    created_at     timestamptz default now(),
    legacy_id      integer unique,
    unique (template_id, predecessor_id)
);
create index template_predecessors_predecessor_id_idx on template_predecessors (predecessor_id);

create table jaws (
    id                 uuid primary key default gen_random_uuid(),
    order_id           uuid not null references orders (id),
    jaw_type           jaw_type not null,
    product_id         uuid references products (id),
    labial             boolean not null,
    -- 0 or 1 per tooth.
    bond_teeth         varchar(16),
    extract_teeth      varchar(16),
    replacement_reason jaw_replacement_reason,
    metadata           jsonb not null default '{}',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    -- A jaw that two orders point at is there twice, so its id is not unique; the key is
    -- the order's id followed by 1 for upper, 2 for lower.
    legacy_jaw_id      integer,
    legacy_key         bigint unique,
    unique (order_id, jaw_type),
    constraint teeth_are_bits check (bond_teeth ~ '^[01]+$' and extract_teeth ~ '^[01]+$')
);
create index jaws_product_id_idx on jaws (product_id);

create table tasks (
    id                 uuid primary key default gen_random_uuid(),
    order_id           uuid references orders (id),
    treatment_plan_id  uuid references treatment_plans (id),
    template_id        uuid not null references templates (id),
    actor_id           uuid references profiles (id),
    file_id            uuid references files (id),
    description        text,
    jaw_specification  smallint not null,
    status             task_status not null,
    checked            boolean not null,
    completed_at       timestamptz,
    metadata           jsonb not null default '{}',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_task_id     integer unique,
    -- A row of dispatch_order, which is not an order and is not moved.
    legacy_order_id    integer
);
create index tasks_order_id_idx on tasks (order_id);
create index tasks_treatment_plan_id_idx on tasks (treatment_plan_id);
create index tasks_template_id_idx on tasks (template_id);
create index tasks_actor_id_idx on tasks (actor_id);
create index tasks_file_id_idx on tasks (file_id) where file_id is not null;

create table order_states (
    id              uuid primary key default gen_random_uuid(),
    order_id        uuid not null references orders (id),
    state           order_state not null,
    status_code     smallint not null,
    is_active       boolean not null,
    changed_by      uuid references profiles (id),
    changed_at      timestamptz not null,
    metadata        jsonb not null default '{}',
    created_at      timestamptz default now(),
    legacy_state_id integer unique
);
create index order_states_order_id_idx on order_states (order_id, changed_at);
create index order_states_changed_by_idx on order_states (changed_by);

create table case_states (
    id              uuid primary key default gen_random_uuid(),
    case_id         uuid not null references cases (id),
    order_id        uuid not null references orders (id),
    current_state   case_state not null,
    status_code     smallint not null,
    is_active       boolean not null,
    changed_by      uuid references profiles (id),
    changed_at      timestamptz not null,
    reason          text,
    notes           text,
    metadata        jsonb not null default '{}',
    created_at      timestamptz default now(),
    legacy_state_id integer unique
);
create index case_states_case_id_idx on case_states (case_id, changed_at);
create index case_states_order_id_idx on case_states (order_id);
create index case_states_changed_by_idx on case_states (changed_by);

create table order_files (
    id                    uuid primary key default gen_random_uuid(),
    order_id              uuid not null references orders (id),
    file_id               uuid not null references files (id),
    -- Somebody has to say it; suggested_category is a guess from the file's name.
    category              text,
    suggested_category    text,
    uploaded_at           timestamptz,
    created_at            timestamptz default now(),
    legacy_file_id        integer unique,
    legacy_instruction_id integer,
    unique (order_id, file_id),
    constraint order_files_category_check
        check (category in ('scan', 'image', 'document', 'package', 'model', 'simulation', 'analysis', 'final_package', 'other')),
    constraint order_files_suggested_category_check
        check (suggested_category in ('scan', 'image', 'document', 'package', 'model', 'simulation', 'analysis', 'final_package', 'other'))
);
create index order_files_file_id_idx on order_files (file_id);

create table case_files (
    id             uuid primary key default gen_random_uuid(),
    case_id        uuid not null references cases (id),
    file_id        uuid not null references files (id),
    file_purpose   varchar(50),
    display_order  integer,
    notes          text,
    created_by     uuid references profiles (id),
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_file_id integer unique,
    unique (case_id, file_id)
);
create index case_files_file_id_idx on case_files (file_id);
create index case_files_created_by_idx on case_files (created_by);

create table brackets (
    id                uuid primary key default gen_random_uuid(),
    name              text not null,
    bracket_type      text,
    project_id        uuid references projects (id),
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_bracket_id integer unique
);
create index brackets_project_id_idx on brackets (project_id);

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
create trigger categories_updated_at before update on categories
    for each row execute function update_updated_at_column();
create trigger roles_updated_at before update on roles
    for each row execute function update_updated_at_column();
create trigger technicians_updated_at before update on technicians
    for each row execute function update_updated_at_column();
create trigger technician_roles_updated_at before update on technician_roles
    for each row execute function update_updated_at_column();
create trigger templates_updated_at before update on templates
    for each row execute function update_updated_at_column();
create trigger jaws_updated_at before update on jaws
    for each row execute function update_updated_at_column();
create trigger tasks_updated_at before update on tasks
    for each row execute function update_updated_at_column();
create trigger case_files_updated_at before update on case_files
    for each row execute function update_updated_at_column();
create trigger brackets_updated_at before update on brackets
    for each row execute function update_updated_at_column();
