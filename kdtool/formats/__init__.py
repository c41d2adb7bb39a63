"""Formats shared by several packages: manifests' rows, `system.json`. Imports only kdtool.core."""
