"""What every request passes before its route, outermost first: `Observe`, `RequireKey`, `Admit`."""
