// What htmx does not do by itself: theme, stepper, one order of events, "n new", errors in words.
(() => {
  "use strict";
  const root = document.documentElement;
  const find = (id) => document.getElementById(id);
  const on = (name, handler) => document.addEventListener(name, handler);

  // theme: system → light → dark, kept for the next visit
  const themes = ["system", "light", "dark"];
  const sayTheme = () => {
    const button = find("theme");
    const now = root.dataset.theme || "system";
    button.dataset.theme = now;
    button.setAttribute("aria-label", `Theme: ${now}`);
    button.title = `Theme: ${now}`;
  };
  on("click", (event) => {
    if (!event.target.closest("#theme")) return;
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* for this page only, then */ }
    sayTheme();
  });

  // batch stepper, and Ctrl or Cmd + Enter to send
  on("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (!step) return;
    const input = find("batch-size");
    if (step.dataset.step === "1") input.stepUp();
    else input.stepDown();
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  on("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.target.id !== "prompt") return;
    event.preventDefault();
    const send = find("send");
    if (send && !send.disabled) send.click();
  });

  // No sending at a price that is being asked for; should the answer fail, the server still keeps to the one shown.
  const asksPrice = (element) => element?.id === "order-kind" || element?.id === "order-batch";
  const repriced = (event) => {
    if (event.target.name === "type" || event.target.name === "batch_size") find("send").disabled = true;
  };
  on("input", repriced);
  on("change", repriced);
  on("htmx:finally:request", ({ detail: { ctx } }) => {
    if (asksPrice(ctx.sourceElement) && ctx.status !== "swapped") find("send").disabled = false;
  });

  // Live word waits for replies under way: a card is on the page before the news about it is applied.
  const isLive = (element) => element?.id === "live";
  let underWay = 0;
  let waiting = [];
  const settle = () => {
    if (underWay === 0) waiting.splice(0).forEach((go) => go());
  };
  on("htmx:before:request", (event) => { if (!isLive(event.detail.ctx.sourceElement)) underWay += 1; });
  on("htmx:finally:request", (event) => {
    if (isLive(event.detail.ctx.sourceElement)) return;
    underWay = Math.max(0, underWay - 1);
    settle();
  });
  on("htmx:sse:before:message", (event) => {
    if (underWay) event.detail.waitUntil(new Promise((go) => waiting.push(go)));
  });

  // "n new": what was made elsewhere is announced, never pushed in under the reader
  const unseen = new Set();
  const sayNews = () => {
    for (const id of unseen) if (find(`g-${id}`)) unseen.delete(id);
    const news = find("news");
    if (!news) return;
    news.hidden = unseen.size === 0;
    news.querySelector("span").textContent = `${unseen.size} new`;
  };
  on("created", (event) => { unseen.add(event.detail.data); sayNews(); });
  on("htmx:after:swap", sayNews);

  // after "load more", reading goes on at the first card that came
  on("htmx:after:swap", () => {
    const card = document.querySelector("[data-take-focus]");
    card?.removeAttribute("data-take-focus");
    card?.focus({ preventScroll: true });
  });

  // the live line says whether it is live
  const sayLive = (words, away) => {
    const line = find("live-state");
    if (!line) return;
    line.textContent = words;
    line.classList.toggle("away", away);
  };
  on("htmx:sse:after:connection", () => sayLive("Live", false));
  on("htmx:sse:error", (event) => {
    if (event.detail.status === 401) location.reload();
    else sayLive("Reconnecting…", true);
  });

  // Errors keep what was typed, name the request and offer another try.
  const complain = (words, reference) => {
    const alert = find("trouble");
    if (!alert) return;
    alert.querySelector("[data-words]").textContent = words;
    alert.querySelector("[data-reference]").textContent = reference ? `Request ${reference}` : "";
    alert.hidden = false;
    alert.scrollIntoView({ block: "nearest" });
  };
  const reason = (problem) => {
    try { return JSON.parse(problem).detail || "That did not work."; } catch { return "That did not work."; }
  };
  on("htmx:response:error", (event) => {
    const { ctx } = event.detail;
    if ((ctx.response.headers.get("Content-Type") || "").startsWith("text/html")) return;
    const text = ctx.text;
    ctx.text = "";
    ctx.swap = "none";
    if (isLive(ctx.sourceElement)) return;
    complain(`${reason(text)} What you typed is still here.`, ctx.response.headers.get("X-Request-Id"));
  });
  on("htmx:error", (event) => {
    if (event.detail.ctx && !isLive(event.detail.ctx.sourceElement)) {
      complain("The studio cannot be reached just now. What you typed is still here.", null);
    }
  });
  on("htmx:before:request", () => { const alert = find("trouble"); if (alert) alert.hidden = true; });

  sayTheme();
})();
