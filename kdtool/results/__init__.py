"""Tables over all decodes: results.json and RESULTS.md."""
