// The page's own code: what the URL says is shown; ticks, windows, selection, keys. Server text is never made markup here.
"use strict";
(() => {
  const $ = (selector, of = document) => of.querySelector(selector);
  const all = (selector, of = document) => [...of.querySelectorAll(selector)];
  const OURS = Symbol("sent by this file"); // what else sends a request must carry the nonce
  const nonce = $("script[nonce]").nonce;
  const state = { live: true, last: 0, busy: 0, code: "", shown: null, pointer: false, all: false, anchor: null, every: 1, heard: 0, seen: false, acted: Date.now() };
  const picked = new Set(); // ids of selected rows

  // No string becomes markup or code by itself; htmx has a policy of its own.
  window.trustedTypes?.createPolicy("default", { createHTML: (text) => text.replace(/[<&]/g, (c) => `&#${c.charCodeAt(0)};`) });

  // --- Login -------------------------------------------------------------------------------------------------------
  const pages = Object.fromEntries(all("[data-page]").map((one) => [one.dataset.page, one]));
  for (const one of Object.values(pages)) { one.remove(); one.hidden = false; }

  function page(name, why = "") {
    for (const id of ["head", "strip", "drawer"]) $("#" + id).replaceChildren();
    $("#drawer").hidden = true;
    $("#dialog").close();
    heard();
    state.shown = null;
    $("[data-why]", pages.login).textContent = why;
    $("#screen").replaceChildren(pages[name]);
    ($("button", pages[name]) ?? $("#screen")).focus();
  }

  const brought = () => /^#[\w-]{16,}$/.test(location.hash); // the address has a code, at load or pasted later
  async function begin() {
    state.code = brought() ? location.hash.slice(1) : "";
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    if (!state.code) return show(location.search);
    const who = await fetch("/ui/whoami");
    if (!who.ok) return login();
    $("[data-who]", pages.replace).textContent = (await who.json()).name;
    page("replace");
  }

  async function login() {
    const body = JSON.stringify({ code: state.code }), headers = { "Content-Type": "application/json" };
    const answer = await fetch("/login", { method: "POST", headers, body });
    state.code = "";
    if (answer.ok) return show(location.search);
    const said = await answer.json().catch(() => ({}));
    const why = said.detail ?? `The login was answered with ${answer.status}.`;
    if (!(await fetch("/ui/whoami")).ok) return page("login", why);
    toast(why, "bad"); // the session that there was goes on
    show(location.search);
  }

  // --- Requests ----------------------------------------------------------------------------------------------------
  /** Get a fragment into its place; a later one for the same place takes over. Tells whether it came. */
  async function load(path, target, swap = "innerHTML", values) {
    const result = {};
    state.busy += 1;
    try { await htmx.ajax(values ? "POST" : "GET", path, { source: target, target, swap, values, ours: OURS, result }); } finally { state.busy -= 1; }
    return result.status < 400;
  }

  addEventListener("DOMContentLoaded", () => {
    htmx.registerExtension("ours", {
      // hx-csp looks at elements with actions only; a stream of an injected element is refused here.
      htmx_config_request: (element, { ctx }) => {
        if (Date.now() - state.acted > 60_000) ctx.request.headers["X-Idle"] = "1"; // does not keep the session
        return ctx.ours === OURS || (element.getAttribute("hx-nonce") === nonce && Boolean(nonce));
      },
    });
    begin();
  });

  for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"]) addEventListener(kind, () => { state.acted = Date.now(); }, true);

  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx } = event.detail;
    const status = ctx.response?.status ?? 200;
    heard();
    if (ctx.result) ctx.result.status = status;
    if (status < 400) return;
    event.preventDefault();
    let said = {};
    try { said = JSON.parse(ctx.text); } catch { /* not a problem of ours */ }
    trouble(status, said, ctx);
  });

  function trouble(status, said, ctx) {
    if (status === 401) return page("login", state.seen ? "The login has ended." : "");
    const text = [said.detail ?? `It was answered with ${status}.`, said.remedy].filter(Boolean).join("; ");
    const spot = said.title === "BadSelector" && $("#filter-error") ? $("#filter-error") : $("#dialog[open] .error");
    if (!spot) return toast(text, "bad");
    const at = spot.id && /character (\d+)|at its end/.exec(text);
    spot.replaceChildren(...(at ? [made("span", "caret", "▲")] : []), text.replace(/^selector '.*?': /s, ""));
    if (at) spot.firstChild.style.marginLeft = `${at[1] ? at[1] - 1 : $("#filter").value.length}ch`;
    if (ctx.ours === OURS && spot.id) $("#filter").setAttribute("aria-invalid", "true");
  }

  const made = (tag, className, textContent) => Object.assign(document.createElement(tag), { className, textContent });

  // The daemon does not answer: a request or the stream has failed, or nothing has come for some seconds.
  document.addEventListener("htmx:error", ({ detail }) => { if (detail.ctx?.result || detail.ctx?.ours) $("#lost").hidden = false; });
  const heard = () => { state.heard = performance.now(); $("#lost").hidden = true; };
  document.addEventListener("htmx:sse:error", ({ detail: { status } }) => { if (status === 401) trouble(status); else if (!status && !document.hidden) $("#lost").hidden = false; });
  document.addEventListener("visibilitychange", () => { state.heard = performance.now(); });
  setInterval(() => { if (!document.hidden && $("#ticks") && performance.now() - state.heard > 5_000) $("#lost").hidden = false; }, 1_000);

  function toast(text, tone) {
    const one = made("p", `toast ${tone}`, text), close = made("button", "button quiet", "✕");
    close.dataset.do = "dismiss";
    close.setAttribute("aria-label", "Dismiss");
    one.append(close);
    $("#toasts").append(one);
  }

  // --- The URL -----------------------------------------------------------------------------------------------------
  const query = (search = location.search) => new URLSearchParams(search);
  const without = (search, ...names) => { const left = query(search); names.forEach((one) => left.delete(one)); return left.toString(); };

  /** Bring the page to what a query says: the drawer, the rows, or the whole screen, whichever is the least. */
  async function show(search) {
    const before = state.shown;
    state.shown = search;
    if (before === null || without(before, "open", "select", "sort", "offset") !== without(search, "open", "select", "sort", "offset")) {
      pick(null);
      $("#drawer").replaceChildren();
      await load("/ui/screen" + search, "#screen");
      if (!query(search).get("gate") && $("#gate")?.value) { // the page stays with the gate that was chosen for it
        search = state.shown = changed({ gate: $("#gate").value });
        history.replaceState(null, "", "/" + search);
      }
    } else if (without(before, "open") !== without(search, "open")) {
      if (without(before, "open", "offset") !== without(search, "open", "offset")) pick(null);
      if (await load("/ui/rows" + search, "#screen", "none") && $("#filter")) $("#filter").value = query(search).get("select") ?? "";
    }
    const open = query(search).get("open");
    if (!open) $("#drawer").replaceChildren();
    else if (query(before ?? "").get("open") !== open || !$("#drawer").childElementCount) await load("/ui/drawer" + search, "#drawer");
    settle();
  }

  const go = (search, replace = false) => { history[replace ? "replaceState" : "pushState"](null, "", "/" + search); return show(search); };

  addEventListener("popstate", () => (brought() ? begin() : show(location.search)));
  addEventListener("hashchange", () => brought() && begin());
  const changed = (values) => {
    const left = query();
    for (const [name, value] of Object.entries(values)) { if (value) left.set(name, value); else left.delete(name); }
    return "?" + left;
  };

  // --- After each change of the document ---------------------------------------------------------------------------
  function settle() {
    const dialog = $("#dialog"), drawer = $("#drawer");
    if (dialog.childElementCount && !dialog.open) dialog.showModal();
    if (!dialog.childElementCount && dialog.open) dialog.close();
    drawer.hidden = !drawer.childElementCount;
    const open = query().get("open"), rows = tokens();
    for (const row of rows) {
      row.setAttribute("aria-selected", String(state.all || picked.has(row.dataset.id)));
      row.classList.toggle("open", row.dataset.id === open);
      const box = $("input", row);
      if (box) box.checked = state.all || picked.has(row.dataset.id);
    }
    if (rows.length && !rows.some((row) => row.tabIndex === 0)) rows[0].tabIndex = 0;
    for (const gap of all("#rows .gap")) gap.firstElementChild.style.height = `${gap.dataset.rows * height()}px`;
    const count = $("#picked");
    if (!count) return;
    count.textContent = state.all ? `all ${$("#rows").dataset.matching} that match` : `${picked.size} selected`;
    $("#pick-all").textContent = state.all || !picked.size ? "" : `select all ${$("#rows").dataset.matching} that match`;
  }
  document.addEventListener("htmx:after:swap", () => { state.seen = true; settle(); });

  const tokens = () => all("#rows [data-id]"); // the rows of any list
  const height = () => tokens()[0]?.getBoundingClientRect().height || 26;

  // --- Ticks -------------------------------------------------------------------------------------------------------
  const still = () => state.all || picked.size > 0 || state.pointer || Boolean($("#rows")?.contains(document.activeElement));

  document.addEventListener("tick", async () => {
    heard();
    const now = performance.now();
    if (document.hidden || !state.live || state.busy || now - state.last < state.every * 1000 - 200) return;
    state.last = now;
    await renew(still());
  });

  /** Get the rows again; where they stay (`keep`), those that are shown, in their order, and how many are new. */
  async function renew(keep) {
    const ids = keep ? tokens().map((row) => row.dataset.id).join(",") : "", at = $("#rows")?.dataset.at;
    if (!$("#rows") && $("#ticks")) return load("/ui/screen" + location.search, "#screen", "innerMorph");
    if (ids.length > 8_000) return; // more than a head may have: the list waits
    await load("/ui/rows" + changed(ids ? { only: ids, at } : {}), "#screen", "none");
    if (query().get("open")) await load("/ui/drawer" + location.search, "#drawer", "innerMorph");
  }

  document.addEventListener("pointerover", ({ target, pointerType }) => {
    state.pointer = pointerType !== "touch" && Boolean(target.closest?.("#rows"));
  });
  document.documentElement.addEventListener("pointerleave", () => { state.pointer = false; });

  // --- The window of rows ------------------------------------------------------------------------------------------
  let frame = 0;
  document.addEventListener("scroll", ({ target }) => {
    if (target.id === "list" && !frame) frame = requestAnimationFrame(() => { frame = 0; slide(target); });
  }, true);

  function slide(list) {
    const rows = $("#rows"), shown = tokens().length, offset = Number(rows.dataset.offset);
    const first = Math.floor(list.scrollTop / height()), last = first + Math.ceil(list.clientHeight / height());
    const matching = Number(rows.dataset.total);
    if (first >= offset && (last <= offset + shown || offset + shown >= matching)) return;
    const next = Math.max(0, Math.min(first - 75, matching - shown));
    if (next !== offset) go(changed({ offset: next }), true);
  }

  // --- Selection ---------------------------------------------------------------------------------------------------
  function pick(row, range = false) {
    if (!row) { picked.clear(); state.all = false; } else {
      const rows = tokens(), id = row.dataset.id, on = !picked.has(id);
      const [from, to] = [rows.findIndex((one) => one.dataset.id === state.anchor), rows.indexOf(row)].sort((a, b) => a - b);
      state.all = false;
      for (const one of range && from >= 0 ? rows.slice(from, to + 1) : [row]) {
        if (on) picked.add(one.dataset.id); else picked.delete(one.dataset.id);
      }
      state.anchor = id;
    }
    settle();
  }

  /** The tokens that a verb is for, as a form takes them: ids with commas between them, or a selector. */
  function chosen() {
    if (state.all) return query().get("select") || "*";
    const row = document.activeElement.closest?.("#rows [data-id]");
    return [...picked].join(",") || row?.dataset.id || query().get("open") || "";
  }

  function form(button) {
    if (button.getAttribute("aria-disabled") === "true") return toast(button.title, "warn");
    const { verb, ...given } = button.dataset;
    const select = given.select ?? (given.name ? undefined : chosen());
    if (select === "") return toast("No row is selected: x selects the one that has the focus.", "warn");
    const gate = query().get("gate") ?? $("#gate")?.value ?? "", asked = new URLSearchParams({ gate, verb, ...given });
    // What is undone as easily, of one token, is done at once.
    if (/^(pause|resume)$/.test(verb) && /^\d+$/.test(select)) return load("/ui/act?" + new URLSearchParams({ gate }), "#dialog", "innerHTML", { verb, select });
    if (select) asked.set("select", select);
    return load("/ui/form?" + asked, "#dialog");
  }

  // --- Clicks and forms --------------------------------------------------------------------------------------------
  const DO = {
    replace: login,
    keep: () => show(location.search),
    theme: () => {
      const order = ["auto", "light", "dark"], next = order[(order.indexOf(localStorage.theme ?? "auto") + 1) % 3];
      localStorage.theme = document.documentElement.dataset.theme = next;
    },
    keys: () => $("#keys").showModal(),
    dismiss: (button) => button.closest(".toast").remove(),
    close: () => { $("#dialog").replaceChildren(); settle(); },
    "pick-all": () => { state.all = true; settle(); },
    fresh: () => renew(false),
    logout: () => fetch("/logout", { method: "POST" }).then(() => page("login", "You have logged out.")),
    live: (button) => {
      state.live = !state.live;
      button.setAttribute("aria-pressed", String(!state.live));
      button.textContent = state.live ? "❚❚" : "▶";
      $("#live").textContent = state.live ? "live" : `held since ${new Date().toTimeString().slice(0, 8)}`;
      if (state.live) renew(still());
    },
  };
  document.documentElement.dataset.theme = localStorage.theme ?? "auto";

  document.addEventListener("click", (event) => {
    const { target } = event;
    const doing = target.closest("[data-do]"), verb = target.closest("[data-verb]"), link = target.closest('a[href^="/?"]');
    const row = target.closest("#rows [data-id]");
    if (doing) DO[doing.dataset.do](doing);
    else if (verb) form(verb);
    else if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      go(link.getAttribute("href").slice(1));
    } else if (row && target.closest("td.pick")) {
      if (target.tagName === "INPUT") target.checked = !target.checked; // settle() sets it
      pick(row, event.shiftKey);
    } else if (row && !getSelection().toString()) open(row);
  });
  const open = (row) => { row.focus(); return go(changed({ open: row.dataset.id })); };
  document.addEventListener("change", ({ target }) => {
    if (target.dataset.go) go(target.dataset.go === "gate" ? `?gate=${encodeURIComponent(target.value)}` : changed({ [target.dataset.go]: target.value }));
    if (target.id === "every") state.every = Number(target.value);
  });

  document.addEventListener("submit", async (event) => {
    if (event.target.id !== "filter-form") return;
    event.preventDefault();
    const search = changed({ select: $("#filter").value.trim(), offset: "" });
    suggest();
    if (!await load("/ui/rows" + search, "#screen", "none")) return;
    $("#filter-error").replaceChildren();
    $("#filter").removeAttribute("aria-invalid");
    pick(null);
    history.pushState(null, "", "/" + search);
    state.shown = search;
    $("#list").scrollTop = 0;
  });

  // --- Completion of the filter ------------------------------------------------------------------------------------
  let typing = 0;
  const suggest = () => { $("#completions")?.replaceChildren(); $("#filter")?.setAttribute("aria-expanded", "false"); }; // none
  document.addEventListener("input", ({ target }) => {
    if (target.id !== "filter") return;
    clearTimeout(typing);
    typing = setTimeout(async () => {
      await load("/ui/complete?" + new URLSearchParams({ gate: $("#gate").value, text: target.value }), "#completions");
      target.setAttribute("aria-expanded", String($("#completions").childElementCount > 0));
    }, 80);
  });
  document.addEventListener("focusout", ({ target }) => { if (target.id === "filter") suggest(); });
  document.addEventListener("pointerdown", (event) => {
    const option = event.target.closest("#completions [data-value]");
    if (option) { event.preventDefault(); take(option); }
  });
  function take(option) {
    $("#filter").value = option.dataset.value;
    suggest();
    $("#filter").dispatchEvent(new Event("input", { bubbles: true }));
  }
  function complete(event) {
    const options = all("#completions [data-value]"), at = options.findIndex((one) => one.getAttribute("aria-selected") === "true");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && options.length) {
      event.preventDefault();
      const next = options[(at + step + options.length) % options.length];
      options.forEach((one) => one.setAttribute("aria-selected", String(one === next)));
      $("#filter").setAttribute("aria-activedescendant", next.id);
    } else if ((event.key === "Tab" || event.key === "Enter") && at >= 0) { event.preventDefault(); take(options[at]); }
    else if (event.key === "Escape") { suggest(); $("#list")?.focus(); }
  }

  // --- Keys --------------------------------------------------------------------------------------------------------
  function move(step) {
    const rows = tokens(), row = rows[rows.indexOf(document.activeElement.closest?.("#rows [data-id]")) + step];
    const next = row ?? (step > 0 && !$("#rows").contains(document.activeElement) ? rows[0] : null);
    if (!next) { $("#list")?.scrollBy(0, step * height() * 10); return; }
    rows.forEach((one) => { one.tabIndex = one === next ? 0 : -1; });
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
  const press = (selector) => { const found = $(`#drawer:focus-within ${selector}`) ?? $(`#actions ${selector}`); if (found) form(found); };
  const KEYS = {
    j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1),
    x: (event, row) => row && pick(row, event.shiftKey), X: (event, row) => row && pick(row, true),
    Enter: (event, row) => row && open(row),
    "/": () => $("#filter")?.select(),
    p: () => press("[data-verb=pause]"), r: () => press("[data-verb=resume]"), e: () => press("[data-verb=terminate]"),
    " ": () => $("[data-do=live]")?.click(),
    "?": () => DO.keys(),
    Escape: () => (query().get("open") ? shut() : picked.size || state.all ? pick(null) : $("#list")?.focus()),
  };
  const shut = () => { const id = $("#rows .open")?.id; return go(changed({ open: "" })).then(() => document.getElementById(id)?.focus()); };
  document.addEventListener("keydown", (event) => {
    if (event.target.id === "filter") return complete(event);
    const control = event.target.closest("input:not([type=checkbox]), select, textarea, dialog[open]");
    const button = event.target.closest("button, a, summary");
    if (control || event.ctrlKey || event.metaKey || event.altKey || (button && [" ", "Enter"].includes(event.key))) return;
    const row = event.target.closest("#rows [data-id]");
    if (!KEYS[event.key] || (event.key.startsWith("Arrow") && !row)) return;
    event.preventDefault();
    KEYS[event.key](event, row);
  });
  $("#dialog").addEventListener("close", () => { $("#dialog").replaceChildren(); });

  // --- Charts of the overview --------------------------------------------------------------------------------------
  const charts = new WeakMap(), UNITS = {
    s: (v) => (v < 1 ? `${Math.round(v * 1000)} ms` : `${+v.toFixed(1)} s`), "%": (v) => `${+(v * 100).toFixed(v < 0.1 ? 1 : 0)} %`,
    MB: (v) => `${Math.round(v / 1e6)} MB`, "": (v) => `${+v.toFixed(1)}`,
  };
  async function draw() {
    const boxes = all("[data-chart]"), answer = boxes.length && await fetch("/ui/charts?" + new URLSearchParams({ gate: $("#gate").value }));
    if (!answer?.ok) return;
    const said = await answer.json();
    for (const box of boxes) {
      const keys = all("[data-name]", box), shown = UNITS[box.dataset.chart], data = [said.at, ...keys.map((key) => said[key.dataset.name])];
      const ink = (one) => () => getComputedStyle(one).color, axis = { stroke: ink(box), grid: { stroke: ink($("hr", box)), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      const tell = (plot) => keys.forEach((key, at) => { $("b", key).textContent = shown(plot.data[at + 1][plot.cursor.idx ?? said.at.length - 1] ?? 0); });
      const fresh = () => new uPlot({
        width: box.clientWidth, height: 126, legend: { show: false }, cursor: { y: false, points: { size: 5 } }, hooks: { setCursor: [tell] }, scales: { y: { range: (_, _min, max) => [0, max * 1.1 || 1] } },
        axes: [{ ...axis, space: 90, size: 24, values: (_, times) => times.map((one) => new Date(one * 1000).toTimeString().slice(0, 8)) }, { ...axis, size: 58, values: (_, values) => values.map(shown) }],
        series: [{}, ...keys.map((key) => ({ stroke: ink(key), width: 1.5, points: { show: false } }))],
      }, data, box);
      if (!charts.has(box)) charts.set(box, fresh());
      const plot = charts.get(box);
      if (plot.width !== box.clientWidth) plot.setSize({ width: box.clientWidth, height: 126 });
      plot.setData(data);
      if (plot.cursor.idx == null) tell(plot);
    }
  }
  document.addEventListener("htmx:after:swap", ({ detail }) => { if (detail.ctx?.target?.id === "screen") draw(); });
})();
