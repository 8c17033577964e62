//! Mounting as a user who is not root, with fusermount3.
