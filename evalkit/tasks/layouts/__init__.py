"""What a folder or file of somebody's own holds, and the tasks that it makes. One file a layout."""
