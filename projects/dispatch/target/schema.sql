-- The target of the dispatch project: the core of the modern schema.
--
-- Names are unqualified, so the schema lands in whatever namespace regraft.toml
-- names; nothing here needs an extension (gen_random_uuid() is built in).
--
-- Where the evidence on the old target conflicts, one design was chosen:
--
--   * orders.doctor_id and doctor_offices.doctor_id hold doctors.id. One trigger
--     and several scripts read them as profile ids; every report reads them as
--     doctors.id. The old trigger validate_orders is replaced by real foreign keys.
--   * patients.primary_doctor_id holds doctors.id, for the same reason.
--   * profiles has no password_hash (signing in belongs to the identity service,
--     and a copied hash is a copied secret), no insurance_info, medical_history and
--     legacy_patient_id (a later specification of the old system removed them) and
--     no embedding (it would need an extension).
--   * doctors has one legacy column instead of three (legacy_user_id,
--     legacy_doctor_id, doctor_id): there never was a legacy doctor table.
--   * courses.legacy_id is named legacy_course_id, like in every other table.
--   * orders has no deleted and deleted_at: deleted orders are not moved.
--
-- created_at is when the thing came into being as far as that is known: NULL means
-- that the legacy system does not tell. updated_at is when the row last changed
-- *here*, and belongs to the trigger; what the legacy system said about its own
-- last change is kept in legacy_updated_at. The defaults are for rows that the new
-- application makes.

create type profile_type as enum
    ('patient', 'doctor', 'technician', 'master', 'sales_person', 'agent', 'client');
create type gender as enum ('male', 'female', 'other', 'unknown');
create type doctor_status as enum ('active', 'inactive');
create type patient_status_type as enum
    ('active', 'consultation', 'treatment_plan', 'in_treatment', 'retention', 'completed',
     'on_hold', 'cancelled', 'transferred', 'archived', 'prospect');
create type course_type as enum
    ('main', 'refinement', 'replacement', 'any', 'invoice', 'merchandise');
create type order_status as enum
    ('no_product', 'submitted', 'approved', 'in_production', 'shipped', 'cancelled',
     'on_hold', 'add_plan');

create function update_updated_at_column() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

create table offices (
    id                  uuid primary key default gen_random_uuid(),
    name                text not null,
    address             text,
    apartment           text,
    city                text,
    state               text,
    zip_code            text,
    country             text,
    phone               text,
    -- A fraction: 0.1025 is ten and a quarter percent.
    tax_rate            numeric(5, 4),
    square_customer_id  text,
    is_active           boolean not null default true,
    email_notifications boolean not null default true,
    metadata            jsonb not null default '{}',
    created_at          timestamptz default now(),
    updated_at          timestamptz not null default now(),
    legacy_office_id    integer unique,
    constraint office_name_not_blank check (btrim(name) <> ''),
    -- A code of two or three capitals, or a name of letters and spaces.
    constraint country_format check (country ~ '^([A-Z]{2,3}|[A-Za-z]+( [A-Za-z]+)*)$'),
    constraint tax_rate_is_fraction check (tax_rate between 0 and 1)
);

create table profiles (
    id             uuid primary key default gen_random_uuid(),
    profile_type   profile_type not null,
    first_name     varchar(100),
    last_name      varchar(100),
    email          varchar(254),
    phone          varchar(32),
    date_of_birth  date,
    gender         gender not null default 'unknown',
    username       varchar(150) unique,
    is_active      boolean not null default true,
    is_verified    boolean not null default false,
    archived       boolean not null default false,
    suspended      boolean not null default false,
    patient_suffix varchar(10),
    last_login_at  timestamptz,
    metadata       jsonb not null default '{}',
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_user_id integer unique,
    constraint email_format
        check (email ~ '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'),
    constraint patient_suffix_required
        check (profile_type <> 'patient' or (patient_suffix is not null and patient_suffix <> ''))
);

-- Names live in profiles. Columns without a default and without a rule in
-- entities/doctors.toml have no source in the legacy system; the application fills
-- them.
create table doctors (
    id                            uuid primary key default gen_random_uuid(),
    profile_id                    uuid not null unique references profiles (id),
    doctor_number                 text not null unique,
    license_number                text,
    npi_number                    text,
    specialty                     text not null default 'orthodontics',
    board_certifications          jsonb not null default '[]',
    education                     jsonb not null default '{}',
    years_experience              integer,
    primary_office_id             uuid references offices (id),
    practice_type                 text,
    status                        doctor_status not null default 'active',
    is_accepting_patients         boolean not null default true,
    max_patient_load              integer not null default 500,
    bio                           text,
    specialties                   jsonb not null default '[]',
    -- Empty, not ["English"] as in the old target: nobody ever recorded it.
    languages_spoken              jsonb not null default '[]',
    professional_memberships      jsonb not null default '[]',
    consultation_duration_minutes integer not null default 60,
    follow_up_duration_minutes    integer not null default 30,
    working_hours                 jsonb,
    consultation_fee              numeric(10, 2),
    accepts_insurance             boolean not null default true,
    payment_terms                 text,
    licensed_since                date,
    joined_practice_at            timestamptz,
    clinical_preferences          jsonb,
    metadata                      jsonb not null default '{}',
    created_at                    timestamptz default now(),
    updated_at                    timestamptz not null default now(),
    legacy_user_id                integer unique
);
create index doctors_primary_office_id_idx on doctors (primary_office_id);

create table doctor_offices (
    id                      uuid primary key default gen_random_uuid(),
    doctor_id               uuid not null references doctors (id),
    office_id               uuid not null references offices (id),
    is_primary              boolean not null default false,
    is_active               boolean not null default true,
    metadata                jsonb not null default '{}',
    created_at              timestamptz default now(),
    updated_at              timestamptz not null default now(),
    legacy_office_doctor_id integer unique,
    unique (doctor_id, office_id)
);
create index doctor_offices_office_id_idx on doctor_offices (office_id);

create table patients (
    id                 uuid primary key default gen_random_uuid(),
    profile_id         uuid not null unique references profiles (id),
    patient_number     text not null unique,
    suffix             varchar(10),
    sex                gender not null default 'unknown',
    date_of_birth      date,
    primary_doctor_id  uuid references doctors (id),
    assigned_office_id uuid references offices (id),
    status             patient_status_type not null,
    archived           boolean not null default false,
    suspended          boolean not null default false,
    medical_history    jsonb,
    insurance_info     jsonb,
    schemes            jsonb,
    enrolled_at        timestamptz,
    metadata           jsonb not null default '{}',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_updated_at  timestamptz,
    legacy_patient_id  integer unique,
    legacy_user_id     integer unique,
    legacy_doctor_id   integer
);
create index patients_primary_doctor_id_idx on patients (primary_doctor_id);
create index patients_assigned_office_id_idx on patients (assigned_office_id);

create table courses (
    id               uuid primary key default gen_random_uuid(),
    name             text not null,
    course_type      course_type not null,
    customization    jsonb,
    metadata         jsonb not null default '{}',
    created_at       timestamptz default now(),
    updated_at       timestamptz not null default now(),
    legacy_course_id integer unique
);

create table orders (
    id                    uuid primary key default gen_random_uuid(),
    order_number          text not null unique,
    patient_id            uuid not null references patients (id),
    doctor_id             uuid not null references doctors (id),
    office_id             uuid references offices (id),
    course_type           course_type not null,
    status                order_status not null,
    suffix                text,
    notes                 text,
    complaint             text,
    amount                numeric(10, 2),
    submitted_at          timestamptz,
    approved_at           timestamptz,
    shipped_at            timestamptz,
    exports               jsonb,
    metadata              jsonb not null default '{}',
    created_at            timestamptz default now(),
    updated_at            timestamptz not null default now(),
    legacy_updated_at     timestamptz,
    legacy_instruction_id integer unique,
    constraint amount_not_negative check (amount >= 0),
    constraint exports_is_object check (jsonb_typeof(exports) = 'object')
);
create index orders_patient_id_idx on orders (patient_id);
create index orders_doctor_id_idx on orders (doctor_id);
create index orders_office_id_idx on orders (office_id);

create trigger offices_updated_at before update on offices
    for each row execute function update_updated_at_column();
create trigger profiles_updated_at before update on profiles
    for each row execute function update_updated_at_column();
create trigger doctors_updated_at before update on doctors
    for each row execute function update_updated_at_column();
create trigger doctor_offices_updated_at before update on doctor_offices
    for each row execute function update_updated_at_column();
create trigger patients_updated_at before update on patients
    for each row execute function update_updated_at_column();
create trigger courses_updated_at before update on courses
    for each row execute function update_updated_at_column();
create trigger orders_updated_at before update on orders
    for each row execute function update_updated_at_column();
