-- The legacy schema of the dispatch project: a Django application on PostgreSQL.
--
-- 53 tables dispatch_*, and the six of Django's own that they rest on. Names, types
-- and conventions are those of the real system as far as they are known: integer keys
-- from a sequence that the key's column owns, an index per foreign key, names ending in
-- Django's digest, deferrable constraints, '' rather than NULL in text, choice fields as
-- small integers, and JSON in text columns.
--
-- Three things to know when reading it:
--
--   * "not evidenced" marks a table whose columns nobody recorded. Its columns are a
--     plausible minimum, there so that every table of the inventory exists.
--   * "no constraint" marks a reference that the real data breaks: rows whose parent is
--     missing were found there, so no foreign key can have been in force.
--   * a unique pair is missing where duplicates were found.

-- Ids the application relies on: 11 dispatch.patient, 12 dispatch.plan, 58 auth.user.
create table django_content_type (
    id        serial primary key,
    app_label varchar(100) not null,
    model     varchar(100) not null,
    constraint django_content_type_app_label_model_76bd3d3b_uniq unique (app_label, model)
);

create table auth_permission (
    id              serial primary key,
    name            varchar(255) not null,
    content_type_id integer not null,
    codename        varchar(100) not null,
    constraint auth_permission_content_type_id_codename_01ab375a_uniq unique (content_type_id, codename)
);

-- Ids the application relies on: 1 Patient, 2 Doctor, 4 admin, 5 Master, 11 Technician.
create table auth_group (
    id   serial primary key,
    name varchar(150) not null,
    constraint auth_group_name_key unique (name)
);

create table auth_group_permissions (
    id            serial primary key,
    group_id      integer not null,
    permission_id integer not null,
    constraint auth_group_permissions_group_id_permission_id_0cd325b0_uniq unique (group_id, permission_id)
);

-- Patients, doctors, technicians and staff alike.
create table auth_user (
    id           serial primary key,
    password     varchar(128) not null,
    last_login   timestamp with time zone,
    is_superuser boolean not null,
    username     varchar(150) not null,
    first_name   varchar(150) not null, -- often empty, sometimes the text null
    last_name    varchar(150) not null,
    email        varchar(254) not null, -- not unique; empty, the text null, and no address at all occur
    is_staff     boolean not null,
    is_active    boolean not null,
    date_joined  timestamp with time zone not null,
    constraint auth_user_username_key unique (username)
);

create table auth_user_groups (
    id       serial primary key,
    user_id  integer not null,
    group_id integer not null,
    constraint auth_user_groups_user_id_group_id_94350c0c_uniq unique (user_id, group_id)
);

-- Not evidenced.
create table dispatch_language (
    id   serial primary key,
    code varchar(16) not null,
    name varchar(64) not null,
    constraint dispatch_language_code_key unique (code)
);

-- Only user_id is evidenced.
create table dispatch_usersetting (
    id              serial primary key,
    user_id         integer not null,
    language_id     integer,
    time_zone       varchar(64) not null,
    notify_by_email boolean not null,
    constraint dispatch_usersetting_user_id_key unique (user_id)
);

create table dispatch_doctorsetting (
    id                   serial primary key,
    user_id              integer not null,
    clinical_preferences text not null, -- JSON
    sq_customer_id       varchar(255) not null,
    promised_payment     boolean not null,
    credit               numeric not null,
    tier_type            smallint,
    tier_finish          timestamp with time zone,
    installment_payments integer not null,
    baa_agreed_at        timestamp with time zone,
    eula_agreed_at       timestamp with time zone,
    company_account      boolean not null,
    constraint dispatch_doctorsetting_user_id_key unique (user_id)
);

create table dispatch_doctorsetting_masters (
    id               serial primary key,
    doctorsetting_id integer not null,
    user_id          integer not null,
    constraint dispatch_doctorsetting_m_doctorsetting_id_user_id_63467f86_uniq unique (doctorsetting_id, user_id)
);

create table dispatch_doctorsetting_sales (
    id               serial primary key,
    doctorsetting_id integer not null,
    user_id          integer not null,
    constraint dispatch_doctorsetting_s_doctorsetting_id_user_id_663d52b1_uniq unique (doctorsetting_id, user_id)
);

create table dispatch_office (
    id             serial primary key,
    name           varchar(255) not null,
    address        varchar(255) not null,
    apt            varchar(64) not null,
    city           varchar(128) not null,
    state          varchar(128) not null,
    zip            varchar(32) not null,
    country        varchar(64),
    phone          varchar(64) not null,
    tax_rate       numeric, -- a percentage (10.25) or a fraction
    valid          boolean,
    sq_customer_id varchar(255) not null,
    emails         boolean not null -- whether the office wants e-mails
);

-- No unique pair: duplicates were found.
create table dispatch_office_doctors (
    id        serial primary key,
    office_id integer not null, -- no constraint: rows of dispatch_office are missing
    user_id   integer not null -- no constraint: rows of auth_user are missing
);

create table dispatch_patient (
    id           serial primary key,
    user_id      integer not null,
    doctor_id    integer, -- a user, there is no table of doctors
    office_id    integer, -- no constraint: rows of dispatch_office are missing
    birthdate    date,
    sex          smallint, -- 1 male, 2 female
    suffix       varchar(32) not null,
    status       smallint not null, -- 1, 2, 4, 10; the meaning is not known
    archived     boolean not null,
    suspended    boolean not null,
    submitted_at timestamp with time zone,
    updated_at   timestamp with time zone,
    schemes      text not null, -- JSON
    constraint dispatch_patient_user_id_key unique (user_id)
);

create table dispatch_course (
    id            serial primary key,
    name          varchar(128) not null,
    "type"        smallint not null,
    customization text not null -- JSON
);

create table dispatch_product (
    id            serial primary key,
    name          varchar(255) not null,
    description   text,
    free          boolean not null,
    deleted       boolean not null,
    customization text not null, -- JSON
    "type"        smallint,
    substitute    boolean not null,
    course_id     integer not null
);

-- Upper or lower is told only by the column of the instruction that points here.
create table dispatch_jaw (
    id            serial primary key,
    bond_teeth    varchar(16) not null, -- 0 or 1 per tooth
    extract_teeth varchar(16) not null,
    reason        smallint,
    product_id    integer,
    labial        boolean not null
);

-- The order. Doctor and office are those of the patient.
create table dispatch_instruction (
    id                serial primary key,
    patient_id        integer not null, -- no constraint: rows of dispatch_patient are missing
    course_id         integer, -- no constraint: rows of dispatch_course are missing
    status            smallint not null, -- 0, 1, 2, 4; the meaning is not known
    deleted           boolean not null,
    submitted_at      timestamp with time zone,
    updated_at        timestamp with time zone,
    price             numeric,
    notes             text,
    complaint         text not null,
    objective         text not null,
    conditions        text not null,
    scanner_notes     text not null,
    model             smallint,
    scanner           smallint,
    cbct              boolean not null,
    comprehensive     boolean,
    accept_extraction boolean,
    "order"           smallint not null,
    suffix            varchar(32) not null,
    upper_jaw_id      integer,
    lower_jaw_id      integer,
    exports           text not null -- JSON, {} when there are none
);

-- Only id and instruction_id are evidenced.
create table dispatch_order (
    id             serial primary key,
    instruction_id integer, -- no constraint: rows of dispatch_instruction are missing
    created_at     timestamp with time zone not null,
    status         smallint not null
);

create table dispatch_project (
    id         serial primary key,
    uid        varchar(64) not null,
    created_at timestamp with time zone not null,
    name       varchar(255) not null,
    size       bigint not null,
    "public"   boolean not null,
    "type"     smallint not null,
    status     smallint not null,
    creator_id integer
);

create table dispatch_plan (
    id             serial primary key,
    instruction_id integer, -- no constraint: rows of dispatch_instruction are missing
    project_id     integer not null,
    notes          text,
    "number"       smallint,
    name           varchar(255) not null,
    original       boolean not null
);

create table dispatch_category (
    id        serial primary key,
    name      varchar(128) not null,
    parent_id integer
);

create table dispatch_template (
    id          serial primary key,
    task_name   varchar(255) not null,
    action_name varchar(255) not null,
    text_name   varchar(255) not null,
    "function"  varchar(128) not null,
    status      smallint not null, -- 1 = active
    duration    integer not null,
    category_id integer,
    predefined  boolean not null,
    read_only   boolean not null,
    extensions  varchar(255) not null,
    alerts      text not null,
    separate    boolean not null
);

create table dispatch_role (
    id       serial primary key,
    name     varchar(128) not null,
    abbrev   varchar(16),
    "type"   smallint not null,
    "order"  smallint not null,
    user_id  integer,
    group_id integer
);

create table dispatch_role_permissions (
    id            serial primary key,
    role_id       integer not null,
    permission_id integer not null,
    constraint dispatch_role_permissions_role_id_permission_id_3dd62918_uniq unique (role_id, permission_id)
);

create table dispatch_product_roles (
    id         serial primary key,
    product_id integer not null,
    role_id    integer not null,
    constraint dispatch_product_roles_product_id_role_id_33f20cfd_uniq unique (product_id, role_id)
);

create table dispatch_product_successors (
    id              serial primary key,
    from_product_id integer not null,
    to_product_id   integer not null,
    constraint dispatch_product_success_from_product_id_to_produ_b7e373e0_uniq unique (from_product_id, to_product_id)
);

-- No unique pair: duplicates were found.
create table dispatch_template_products (
    id          serial primary key,
    template_id integer not null,
    product_id  integer not null
);

create table dispatch_template_view_groups (
    id          serial primary key,
    template_id integer not null,
    group_id    integer not null,
    constraint dispatch_template_view_g_template_id_group_id_42fe2a26_uniq unique (template_id, group_id)
);

create table dispatch_template_view_roles (
    id          serial primary key,
    template_id integer not null,
    role_id     integer not null,
    constraint dispatch_template_view_roles_template_id_role_id_484d75b3_uniq unique (template_id, role_id)
);

create table dispatch_template_edit_roles (
    id          serial primary key,
    template_id integer not null,
    role_id     integer not null,
    constraint dispatch_template_edit_roles_template_id_role_id_57037203_uniq unique (template_id, role_id)
);

-- The names of the two columns are Django's for a relation of a table to itself.
create table dispatch_template_predecessors (
    id               serial primary key,
    from_template_id integer not null,
    to_template_id   integer not null,
    constraint dispatch_template_predec_from_template_id_to_temp_37fd04fe_uniq unique (from_template_id, to_template_id)
);

-- A message, about a patient or a user.
create table dispatch_record (
    id             serial primary key,
    "type"         smallint not null,
    target_type_id integer, -- no constraint: rows of django_content_type are missing
    target_id      integer, -- generic: a row of the table that target_type_id names
    author_id      integer,
    text           text not null,
    created_at     timestamp with time zone not null,
    group_id       integer,
    "public"       boolean
);

create table dispatch_file (
    id             serial primary key,
    uid            varchar(64) not null,
    name           varchar(255),
    ext            varchar(16),
    size           bigint not null,
    "type"         smallint not null,
    status         smallint not null,
    instruction_id integer, -- no constraint: rows of dispatch_instruction are missing
    product_id     integer,
    record_id      integer, -- no constraint: rows of dispatch_record are missing
    parameters     text not null, -- JSON
    created_at     timestamp with time zone not null
);

-- No unique pair: duplicates were found.
create table dispatch_record_attachments (
    id        serial primary key,
    record_id integer not null,
    file_id   integer not null
);

create table dispatch_record_roles (
    id        serial primary key,
    record_id integer not null,
    role_id   integer not null,
    constraint dispatch_record_roles_record_id_role_id_353b169f_uniq unique (record_id, role_id)
);

create table dispatch_task (
    id             serial primary key,
    checked        boolean not null,
    text           text,
    done_at        timestamp with time zone,
    template_id    integer not null,
    plan_id        integer,
    instruction_id integer, -- no constraint: rows of dispatch_instruction are missing
    order_id       integer,
    actor_id       integer,
    jaw            smallint not null,
    file_id        integer
);

create table dispatch_comment (
    id         serial primary key,
    created_at timestamp with time zone not null,
    text       text not null,
    author_id  integer,
    plan_id    integer not null -- no constraint: rows of dispatch_plan are missing
);

create table dispatch_note (
    id         serial primary key,
    created_at timestamp with time zone not null,
    text       text not null,
    author_id  integer,
    doctor_id  integer not null
);

create table dispatch_state (
    id             serial primary key,
    status         smallint not null, -- 11, 12; the meaning is not known
    "on"           boolean not null,
    changed_at     timestamp with time zone not null,
    actor_id       integer,
    instruction_id integer not null -- no constraint: rows of dispatch_instruction are missing
);

create table dispatch_notification (
    id               serial primary key,
    created_at       timestamp with time zone not null,
    sender           varchar(64) not null,
    template_name    varchar(128) not null,
    template_context text not null, -- JSON
    "read"           boolean not null,
    item_id          integer, -- generic: a row of the table that item_type_id names
    item_type_id     integer,
    recipient_id     integer,
    sent             boolean not null,
    send             boolean not null
);

-- The audit trail.
create table dispatch_action (
    id            serial primary key,
    user_id       integer,
    action        varchar(64) not null,
    date          timestamp with time zone not null,
    item_id       integer,
    item_type_id  integer,
    owner_id      integer,
    owner_type_id integer,
    data          text not null -- JSON
);

-- Agents of the system, not technicians. Columns not evidenced.
create table dispatch_agent (
    id     serial primary key,
    name   varchar(128) not null,
    active boolean not null
);

create table dispatch_bracket (
    id         serial primary key,
    name       varchar(255) not null,
    project_id integer,
    "type"     varchar(64) not null
);

-- A doctor's price list; it belongs to no order.
create table dispatch_offer (
    id          serial primary key,
    price_both  numeric not null,
    price_upper numeric not null,
    price_lower numeric not null,
    doctor_id   integer,
    product_id  integer not null
);

create table dispatch_discount (
    id       serial primary key,
    percent  numeric not null,
    reason   varchar(255) not null,
    count    integer,
    "start"  timestamp with time zone,
    finish   timestamp with time zone,
    total    boolean not null,
    used     integer,
    offer_id integer not null
);

create table dispatch_payment (
    id               serial primary key,
    made_at          timestamp with time zone,
    free             boolean not null,
    canceled         boolean not null,
    paid             boolean not null,
    netsuite         boolean not null,
    tax_rate         numeric not null,
    tax_value        numeric not null,
    paid_price       numeric not null,
    subtotal_price   numeric not null,
    total_price      numeric not null,
    additional_price numeric not null,
    used_credit      numeric not null,
    custom_price     numeric,
    installments     text not null, -- JSON list
    instruction_id   integer, -- no constraint: rows of dispatch_instruction are missing
    order_id         integer,
    doctor_id        integer,
    office_id        integer -- no constraint: rows of dispatch_office are missing
);

-- A transaction of a card, nothing clinical.
create table dispatch_operation (
    id            serial primary key,
    "type"        smallint, -- 1 payment, 2 refund
    made_at       timestamp with time zone not null,
    price         numeric not null,
    sq_order_id   varchar(64) not null,
    sq_payment_id varchar(64) not null,
    sq_refund_id  varchar(64) not null,
    card_brand    varchar(32) not null,
    card_bin      varchar(8) not null,
    card_last     varchar(4) not null,
    office_card   boolean not null,
    payment_id    integer not null,
    attempts      integer not null
);

-- Always empty. Columns not evidenced.
create table dispatch_purchase (
    id         serial primary key,
    product_id integer not null,
    quantity   integer not null,
    price      numeric not null,
    made_at    timestamp with time zone not null
);

-- Not evidenced.
create table dispatch_ware (
    id         serial primary key,
    name       varchar(255) not null,
    code       varchar(64) not null,
    quantity   integer not null,
    product_id integer
);

-- Not evidenced.
create table dispatch_storage (
    id   serial primary key,
    name varchar(128) not null,
    path varchar(255) not null
);

-- Not evidenced.
create table dispatch_instance (
    id      serial primary key,
    name    varchar(128) not null,
    address varchar(255) not null,
    seen_at timestamp with time zone
);

-- Holds access tokens of third parties, which must not be copied. Columns not evidenced.
create table dispatch_globalsetting (
    id            serial primary key,
    name          varchar(128) not null,
    access_token  varchar(255) not null,
    refresh_token varchar(255) not null,
    options       text not null -- JSON
);

-- Releases of the desktop program. Not evidenced.
create table dispatch_client (
    id          serial primary key,
    name        varchar(128) not null,
    version     varchar(32) not null,
    released_at timestamp with time zone not null
);

-- Releases of the planning program. Not evidenced.
create table dispatch_client3d (
    id          serial primary key,
    name        varchar(128) not null,
    version     varchar(32) not null,
    released_at timestamp with time zone not null
);

-- Not evidenced.
create table dispatch_master (
    id       serial primary key,
    user_id  integer not null,
    capacity smallint not null,
    constraint dispatch_master_user_id_key unique (user_id)
);

-- Not evidenced.
create table dispatch_event (
    id             serial primary key,
    user_id        integer not null,
    title          varchar(255) not null,
    "start"        timestamp with time zone not null,
    finish         timestamp with time zone,
    instruction_id integer -- no constraint: rows of dispatch_instruction are missing
);

-- Who has read which message. Not evidenced.
create table dispatch_reading (
    id        serial primary key,
    user_id   integer not null,
    record_id integer not null,
    read_at   timestamp with time zone not null,
    constraint dispatch_reading_user_id_record_id_e7239ccf_uniq unique (user_id, record_id)
);

-- A link that shows a project to somebody without an account. Not evidenced.
create table dispatch_link (
    id         serial primary key,
    uid        varchar(64) not null,
    project_id integer not null,
    created_at timestamp with time zone not null,
    expires_at timestamp with time zone,
    constraint dispatch_link_uid_key unique (uid)
);
