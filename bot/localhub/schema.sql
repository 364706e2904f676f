-- The Hub's records. File contents live beside it, in blobs/, named by their SHA-256.

CREATE TABLE IF NOT EXISTS repos (
    id TEXT PRIMARY KEY,                 -- 24 hex digits, stable through renames
    type TEXT NOT NULL,
    owner TEXT NOT NULL COLLATE NOCASE,
    name TEXT NOT NULL COLLATE NOCASE,
    private INTEGER NOT NULL,
    gated TEXT NOT NULL DEFAULT '',      -- '', 'auto' or 'manual'
    sdk TEXT,                            -- Spaces only
    created_at TEXT NOT NULL,
    UNIQUE (type, owner, name)
);

-- How a Space is to run. This Hub runs none: it keeps what the owner asked for.
CREATE TABLE IF NOT EXISTS spaces (
    repo_id TEXT PRIMARY KEY REFERENCES repos (id) ON DELETE CASCADE,
    hardware TEXT NOT NULL,
    sleep_time INTEGER,                  -- seconds; -1 for never; NULL for the hardware's own
    paused INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS space_settings (
    repo_id TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('secret', 'variable')),
    key TEXT NOT NULL,
    value TEXT,                          -- NULL for a secret: nothing here could use it
    description TEXT,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (repo_id, kind, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS commits (
    id INTEGER PRIMARY KEY,
    repo_id TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    oid TEXT NOT NULL UNIQUE,
    parent TEXT,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    author TEXT NOT NULL,
    date TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS commits_by_repo ON commits (repo_id);

-- Every commit lists all of its files, so reading a revision is one query and never a replay.
CREATE TABLE IF NOT EXISTS entries (
    commit_id INTEGER NOT NULL REFERENCES commits (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    oid TEXT NOT NULL,                   -- git blob SHA-1 (of the pointer file, for LFS)
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,                -- name in the blob store
    lfs INTEGER NOT NULL,
    changed_in INTEGER NOT NULL,         -- commits.id that last touched the path
    PRIMARY KEY (commit_id, path)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS refs (
    repo_id TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('branch', 'tag')),
    name TEXT NOT NULL,
    oid TEXT NOT NULL,
    PRIMARY KEY (repo_id, kind, name)
) WITHOUT ROWID;

-- Which large files a repository may commit. Knowing a SHA-256 is not owning the bytes.
CREATE TABLE IF NOT EXISTS repo_objects (
    repo_id TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (repo_id, sha256)
) WITHOUT ROWID;

-- What people allowed OAuth apps. Codes and tokens are kept as SHA-256 only; times are Unix seconds.
CREATE TABLE IF NOT EXISTS oauth_codes (
    digest TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    user TEXT NOT NULL,
    scopes TEXT NOT NULL,                -- separated by spaces
    redirect TEXT NOT NULL,
    nonce TEXT,
    challenge TEXT,                      -- PKCE, S256
    expires REAL NOT NULL
);

CREATE TABLE IF NOT EXISTS oauth_tokens (
    digest TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    user TEXT NOT NULL,
    scopes TEXT NOT NULL,
    expires REAL NOT NULL
);

-- Which app created a repository, for the scope contribute-repos.
CREATE TABLE IF NOT EXISTS app_repos (
    repo_id TEXT PRIMARY KEY REFERENCES repos (id) ON DELETE CASCADE,
    client TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS collections (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL COLLATE NOCASE,
    title TEXT NOT NULL,
    description TEXT,
    private INTEGER NOT NULL,
    theme TEXT NOT NULL,
    position INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (owner, title)
);

CREATE TABLE IF NOT EXISTS collection_items (
    id TEXT PRIMARY KEY,
    collection_id TEXT NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    repo_id TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    note TEXT,
    position INTEGER NOT NULL,
    UNIQUE (collection_id, repo_id)
);

CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT,
    watched TEXT NOT NULL,               -- JSON [{"type": "org", "name": "..."}]
    domains TEXT NOT NULL,               -- JSON ["repo", "discussion"]
    disabled INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    payload TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL,                            -- Unix time of the next attempt; NULL once delivered or given up
    outcome TEXT                         -- last status line or error
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due) WHERE due IS NOT NULL;
