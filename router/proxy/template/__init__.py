"""The part of Go's html/template that error pages are written in (GOROUTER.md §5.6)."""
