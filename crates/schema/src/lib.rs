//! The table of every built-in type's fields, and the codecs it drives.
