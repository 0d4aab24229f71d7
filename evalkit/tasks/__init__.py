"""From YAML files to tasks, and from tasks to their samples."""
