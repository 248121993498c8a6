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

  // No sending at a price that is not the one of what is picked. Where that cannot be had, the server keeps to the one
  // that was shown; a number that makes no sense is for the browser to complain about.
  const matchPrice = () => {
    const cost = find("cost");
    if (!cost) return;
    const batch = find("batch-size");
    const kind = document.querySelector("#order-kind :checked");
    const same = cost.dataset.for === `${kind?.value}:${batch.valueAsNumber}` || !batch.validity.valid;
    find("send").disabled = "closed" in cost.dataset || !same;
  };
  on("input", matchPrice);
  on("change", matchPrice);
  on("htmx:after:swap", matchPrice);
  on("htmx:error", ({ detail: { ctx, error } }) => {
    if (ctx?.target?.id === "cost" && error?.name !== "AbortError") find("send").disabled = false;
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

  // Whoever reads at the end of a text that grows past its box stays there; whoever has scrolled up does, too.
  const atEnd = new WeakMap();
  on("htmx:before:swap", ({ detail: { ctx } }) => {
    const texts = [...document.querySelectorAll(".arriving")];
    atEnd.set(ctx, texts
      .filter((text) => text.scrollHeight - text.scrollTop - text.clientHeight < 40)
      .map((text) => [text, text.scrollTop, text.scrollHeight]));
  });
  on("htmx:after:swap", ({ detail: { ctx } }) => {
    for (const [text, top, height] of atEnd.get(ctx) ?? [])
      if (text.scrollHeight !== height && text.scrollTop >= top) text.scrollTop = text.scrollHeight;
  });

  // What a person asked for takes the focus: the first of more cards, the prompt of a form that a link filled in.
  on("htmx:after:swap", () => {
    const asked = document.querySelector("[data-take-focus]");
    asked?.removeAttribute("data-take-focus");
    asked?.focus({ preventScroll: true });
    asked?.setSelectionRange?.(-1, -1);
  });

  // the toast: dismissed, the focus goes on to the list
  on("click", (event) => {
    if (!event.target.closest("#dismiss")) return;
    find("toast").replaceChildren();
    const list = find("history-title");
    list.tabIndex = -1;
    list.focus();
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
    if (isLive(ctx.sourceElement)) sayLive("Not live just now", true);
    else complain(`${reason(text)} What you typed is still here.`, ctx.response.headers.get("X-Request-Id"));
  });
  on("htmx:error", (event) => {
    const { ctx } = event.detail;
    if (isLive(ctx?.sourceElement)) sayLive("Not live just now", true);
    else if (ctx) complain("The studio cannot be reached just now. What you typed is still here.", null);
  });
  on("htmx:before:request", () => { const alert = find("trouble"); if (alert) alert.hidden = true; });

  sayTheme();
})();
