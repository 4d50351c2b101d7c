//! Names and shapes that every room shares: GVK, `Object`, `Status`, selectors, quantities, patches.
