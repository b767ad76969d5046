"""Pictures with text in them: pages, forms, tables, charts, maps, screens."""
