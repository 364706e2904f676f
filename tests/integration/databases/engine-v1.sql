BEGIN TRANSACTION;
CREATE TABLE application_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    version_name TEXT NOT NULL UNIQUE,
    version_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL);
INSERT INTO "application_versions" VALUES('cb1f31f7-4563-4bb6-baa7-fac4a6d58c6d','2',1795904197000,1795904197000,'phimill');
CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO "dbos_migrations" VALUES(125);
CREATE TABLE notifications (
    message_uuid TEXT NOT NULL DEFAULT (hex(randomblob(16))) PRIMARY KEY,
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000), "serialization" TEXT DEFAULT NULL, "consumed" BOOLEAN NOT NULL DEFAULT FALSE, consumed_by_function_id INTEGER,
    FOREIGN KEY (destination_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE "operation_outputs" (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms INTEGER,
    completed_at_epoch_ms INTEGER,
    serialization TEXT,
    application_name TEXT DEFAULT NULL,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    PRIMARY KEY (workflow_uuid, function_id)
);
INSERT INTO "operation_outputs" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',1,'fetch','{"value":"fetch"}',NULL,NULL,1795904199140,1795904199266,'portable_json','phimill',1795904199000);
INSERT INTO "operation_outputs" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',2,'convert','{"value":"convert"}',NULL,NULL,1795904199281,1795904199300,'portable_json','phimill',1795904199000);
INSERT INTO "operation_outputs" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',3,'prove','{"value":"prove"}',NULL,NULL,1795904199314,1795904199323,'portable_json','phimill',1795904199000);
INSERT INTO "operation_outputs" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1',4,'publish','{"value":"publish"}',NULL,NULL,1795904199366,1795904199390,'portable_json','phimill',1795904199000);
INSERT INTO "operation_outputs" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',1,'fetch','{"value":"fetch"}',NULL,NULL,1795904199712,1795904199722,'portable_json','phimill',1795904199000);
INSERT INTO "operation_outputs" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1',2,'convert','{"value":"convert"}',NULL,NULL,1795904199736,1795904199749,'portable_json','phimill',1795904199000);
CREATE TABLE queues (
    queue_id TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))),
    name TEXT NOT NULL UNIQUE,
    concurrency INTEGER,
    worker_concurrency INTEGER,
    rate_limit_max INTEGER,
    rate_limit_period_sec REAL,
    priority_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    partition_queue BOOLEAN NOT NULL DEFAULT FALSE,
    polling_interval_sec REAL NOT NULL DEFAULT 1.0,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL, "partition_concurrency" INTEGER DEFAULT NULL, "partition_worker_concurrency" INTEGER DEFAULT NULL, "partition_rate_limit_max" INTEGER DEFAULT NULL, "partition_rate_limit_period_sec" REAL DEFAULT NULL);
INSERT INTO "queues" VALUES('BAAD42B6D8170CB1B7A71D69940A65A2','builds-gguf',NULL,1,NULL,NULL,1,0,0.5,1795904197000,1795904197500,'phimill',NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('DB9D231EF6C58FF02F8BA14E0A31C2A2','builds-mlx',NULL,1,NULL,NULL,1,0,0.5,1795904197000,1795904197551,'phimill',NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('12B6A181CA72616ED1C538179FF2F297','builds-onnx',NULL,1,NULL,NULL,1,0,0.5,1795904197000,1795904197566,'phimill',NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('12131458D672BB8E86DF774FDCE6F5AD','builds-openvino',NULL,1,NULL,NULL,1,0,0.5,1795904197000,1795904197580,'phimill',NULL,NULL,NULL,NULL);
CREATE TABLE streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL, function_id INTEGER NOT NULL DEFAULT 0, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key, "offset"),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, function_id, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_input (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    inputs TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_input" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1','{"namedArgs":{},"positionalArgs":[{"repo":"microsoft/Phi-1","sha":"1111111111111111111111111111111111111111","backend":"gguf","namespace":"phimill","toolchain":"t","targets":[{"repo":"phimill/Phi-1-gguf","version":"v1.0","recipes":["gguf/int4"]}],"asker":null,"private":false},true]}',1795904197000);
INSERT INTO "workflow_input" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1','{"namedArgs":{},"positionalArgs":[{"repo":"microsoft/Phi-2","sha":"1111111111111111111111111111111111111111","backend":"gguf","namespace":"phimill","toolchain":"t","targets":[{"repo":"phimill/Phi-2-gguf","version":"v1.0","recipes":["gguf/int4"]}],"asker":null,"private":false},false]}',1795904199000);
CREATE TABLE workflow_output (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    output TEXT,
    error TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_output" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1','{"results":[{"recipe":"gguf/int4","status":"published","repo":null,"tag":null,"files":[],"bytes":null,"kl_mean":null,"kl_p99":null,"top1":null,"perplexity_ratio":null,"reason":null}],"failure":null}',NULL,1795904199000);
CREATE TABLE workflow_schedules (
    schedule_id TEXT PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL
, "last_fired_at" TEXT DEFAULT NULL, "automatic_backfill" BOOLEAN NOT NULL DEFAULT FALSE, "cron_timezone" TEXT DEFAULT NULL, "queue_name" TEXT DEFAULT NULL, "application_name" TEXT DEFAULT NULL);
CREATE TABLE workflow_status (
    workflow_uuid TEXT PRIMARY KEY,
    status TEXT,
    name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    request TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    application_version TEXT,
    application_id TEXT,
    class_name TEXT DEFAULT NULL,
    config_name TEXT DEFAULT NULL,
    recovery_attempts INTEGER DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms INTEGER,
    workflow_deadline_epoch_ms INTEGER,
    inputs TEXT,
    started_at_epoch_ms INTEGER,
    deduplication_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0
, queue_partition_key TEXT, forked_from TEXT, "owner_xid" TEXT DEFAULT NULL, "parent_workflow_id" TEXT DEFAULT NULL, "serialization" TEXT DEFAULT NULL, "delay_until_epoch_ms" BIGINT DEFAULT NULL, "was_forked_from" BOOLEAN NOT NULL DEFAULT FALSE, "rate_limited" BOOLEAN NOT NULL DEFAULT FALSE, "completed_at" BIGINT, "attributes" TEXT, "schedule_name" TEXT, "debounce_deadline_epoch_ms" BIGINT DEFAULT NULL, "is_debounced" BOOLEAN NOT NULL DEFAULT FALSE, "application_name" TEXT DEFAULT NULL, "creator_xid" TEXT DEFAULT NULL);
INSERT INTO "workflow_status" VALUES('f79d3840cbd48aeddffd5aeed8cc9784-1','SUCCESS','build',NULL,NULL,NULL,NULL,NULL,NULL,'beecd441819444e39169388171e40c80',1795904197000,1795904199000,'2',NULL,NULL,NULL,1,'builds-gguf',NULL,NULL,NULL,1795904199000,NULL,1,NULL,NULL,NULL,NULL,'portable_json',NULL,0,0,1795904199000,'null',NULL,NULL,0,'phimill','3993ff08-0ddd-49c7-aacd-afb17f4f33fb');
INSERT INTO "workflow_status" VALUES('a4d3b7ad5ce0f651be8eabd925898a91-1','PENDING','build',NULL,NULL,NULL,NULL,NULL,NULL,'beecd441819444e39169388171e40c80',1795904199000,1795904199000,'2',NULL,NULL,NULL,1,'builds-gguf',NULL,NULL,NULL,1795904199000,NULL,10,NULL,NULL,'b43b3833-c14c-4a72-8561-7a9401eb64e4',NULL,'portable_json',NULL,0,0,NULL,'null',NULL,NULL,0,'phimill','453ffb80-da99-4723-9c24-e1efd32436cf');
CREATE INDEX workflow_status_created_at_index ON workflow_status (created_at);
CREATE INDEX idx_workflow_topic ON notifications (destination_uuid, topic);
CREATE INDEX "idx_workflow_status_delayed" ON "workflow_status" ("delay_until_epoch_ms") WHERE status = 'DELAYED';
CREATE INDEX "idx_workflow_status_forked_from" ON "workflow_status" ("forked_from") WHERE "forked_from" IS NOT NULL;
CREATE INDEX "idx_workflow_status_parent_workflow_id" ON "workflow_status" ("parent_workflow_id") WHERE "parent_workflow_id" IS NOT NULL;
CREATE UNIQUE INDEX "uq_workflow_status_dedup_id" ON "workflow_status" ("queue_name", "deduplication_id") WHERE "deduplication_id" IS NOT NULL;
CREATE INDEX "idx_workflow_status_pending" ON "workflow_status" ("created_at") WHERE "status" = 'PENDING';
CREATE INDEX "idx_workflow_status_failed" ON "workflow_status" ("status", "created_at") WHERE "status" IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');
CREATE INDEX "idx_workflow_status_rate_limited" ON "workflow_status" ("queue_name", "started_at_epoch_ms") WHERE "rate_limited" = TRUE;
CREATE INDEX "idx_workflow_status_completed_at" ON "workflow_status" ("completed_at") WHERE "completed_at" IS NOT NULL;
CREATE INDEX "idx_workflow_status_started_at" ON "workflow_status" ("started_at_epoch_ms") WHERE "started_at_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_workflow_status_schedule_name" ON "workflow_status" ("schedule_name") WHERE "schedule_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_owner_version"
    ON application_versions ("application_name", "version_name")
    WHERE "application_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_unclaimed_version"
    ON application_versions ("version_name")
    WHERE "application_name" IS NULL;
CREATE INDEX idx_workflow_input_retention
    ON workflow_input (retention_timestamp);
CREATE INDEX idx_workflow_output_retention
    ON workflow_output (retention_timestamp);
CREATE INDEX idx_operation_outputs_retention
    ON operation_outputs (retention_timestamp);
CREATE INDEX "idx_workflow_status_in_flight_v2" ON "workflow_status" ("queue_name", "status", "priority", "created_at", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING');
CREATE INDEX "idx_workflow_status_partition_dequeue_v3" ON "workflow_status" ("queue_name", "status", "queue_partition_key", "priority", "created_at", "workflow_uuid", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING') AND "queue_partition_key" IS NOT NULL;
CREATE INDEX "idx_operation_outputs_completed_at_function_name_v2" ON "operation_outputs" ("completed_at_epoch_ms", "function_name", "application_name");
CREATE INDEX "idx_workflow_status_deadline" ON "workflow_status" ("workflow_deadline_epoch_ms") WHERE "status" IN ('ENQUEUED', 'PENDING', 'DELAYED') AND "workflow_deadline_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_application_versions_timestamp" ON "application_versions" ("version_timestamp" DESC);
CREATE INDEX "idx_application_versions_owner_timestamp" ON "application_versions" ("application_name", "version_timestamp" DESC);
COMMIT;
