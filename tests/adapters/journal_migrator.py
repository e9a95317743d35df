"""Migrates a journal by a script that takes long, in a process of its own that is killed over it: PATH."""

import sys

from adapters.journal_schema import SCHEMA_VERSION, open_writer

QUICK = "ALTER TABLE entry ADD COLUMN quick INTEGER;"
LONG = """
CREATE TABLE more (x INTEGER, text TEXT);
UPDATE entry SET claimed = 'half done';
PRAGMA cache_size = 10;
WITH RECURSIVE numbers(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM numbers WHERE x < 100000000)
INSERT INTO more SELECT x, hex(randomblob(100)) FROM numbers;
"""
NEXT, NEWEST = SCHEMA_VERSION + 1, SCHEMA_VERSION + 2

if __name__ == "__main__":
    open_writer(sys.argv[1], version=NEWEST, migrations={SCHEMA_VERSION: QUICK, NEXT: LONG})
