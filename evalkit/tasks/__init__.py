"""YAML files to tasks, and tasks to their samples."""
