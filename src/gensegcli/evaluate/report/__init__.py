"""What came out of evaluations, side by side: tables in five forms and one page that needs nothing but a browser."""
