"""The stages that every byte passes on its way into a store and back. Code in this package must not know what an archive is."""
