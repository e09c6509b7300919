//! The PTX that ships.
