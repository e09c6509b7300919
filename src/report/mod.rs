//! What a person looks at after a run: curves, contact sheets, tables.
