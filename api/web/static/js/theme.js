// Runs before first paint: says that scripts run, and applies the theme this person chose over the system's.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch { /* storage is refused: the system's theme it is */ }
})();
