//! Views of rows: strings.
