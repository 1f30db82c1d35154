"""The files of a machine: walking, stat records, attributes, safe writing. Shared by hibernate, wake and verify."""
