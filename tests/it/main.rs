//! The one integration-test binary of the workspace; a module a subject.

mod workspace;
