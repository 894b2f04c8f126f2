// Opens a study in OHIF in headless Chromium, loads its segmentation and takes a screenshot.
//
// Usage: node ohif.mjs OHIF_DIST DICOMWEB_ROOT STUDY_UID SEG_DESCRIPTION PICTURE.png
//
// OHIF_DIST is dist/ of the npm package @ohif/app; puppeteer-core and chromium must be there.
// Prints one line of JSON: what OHIF says of the segmentation it shows, and every request to
// DICOMWEB_ROOT that failed. Exit status 1 when no segmentation is shown within two minutes.

import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import puppeteer from "puppeteer-core";

const [dist, root, study, description, picture] = process.argv.slice(2);

const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

const CONFIG = `window.config = {
  routerBasename: "/",
  extensions: [],
  modes: [],
  showStudyList: true,
  disableConfirmationPrompts: true,
  investigationalUseDialog: { option: "never" },
  defaultDataSourceName: "seer",
  dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
    sourceName: "seer",
    configuration: {
      friendlyName: "SEER",
      name: "seer",
      qidoRoot: "${root}",
      wadoRoot: "${root}",
      wadoUriRoot: "${root}",
      qidoSupportsIncludeField: true,
      supportsFuzzyMatching: true,
      supportsWildcard: true,
      imageRendering: "wadors",
      thumbnailRendering: "wadors",
      enableStudyLazyLoad: true,
      dicomUploadEnabled: true,
      bulkDataURI: { enabled: true },
    },
  }],
};`;

/** OHIF's own pages at `/`, with its configuration replaced; unknown paths are its routes. */
function serveOhif() {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    if (path === "/app-config.js") {
      response.setHeader("content-type", "text/javascript");
      response.end(CONFIG);
      return;
    }
    const file = join(dist, path);
    const found = extname(path) && existsSync(file) ? file : join(dist, "index.html");
    response.setHeader("content-type", TYPES[extname(found)] ?? "application/octet-stream");
    createReadStream(found).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** Whether the grid of viewports is there; its service throws until it has been drawn. */
function gridIsReady() {
  try {
    return Boolean(window.services.viewportGridService.getActiveViewportId());
  } catch {
    return false;
  }
}

/** Double-clicks the first series of the study browser with this text; says whether it is there. */
function openSeries(text) {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.textContent.trim() === text) {
      const event = new MouseEvent("dblclick", { bubbles: true, cancelable: true, view: window });
      node.parentElement.dispatchEvent(event);
      return true;
    }
  }
  return false;
}

/** What OHIF's segmentation service holds; null until it holds something with an image. */
function shownSegmentations() {
  const service = window.services?.segmentationService;
  const held = service?.getSegmentations?.() ?? [];
  const shown = held.map((segmentation) => ({
    label: segmentation.label,
    segments: Object.values(segmentation.segments ?? {})
      .filter(Boolean)
      .map((segment) => segment.label),
  }));
  return shown.length > 0 ? shown : null;
}

const server = await serveOhif();
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
  defaultViewport: { width: 1400, height: 900 },
});
const failed = [];
try {
  const page = await browser.newPage();
  page.on("response", (response) => {
    if (response.url().startsWith(root) && response.status() >= 400) {
      failed.push(`${response.status()} ${response.url().slice(root.length)}`);
    }
  });
  page.on("pageerror", (error) => console.error(`page error: ${error.message}`));
  if (process.env.OHIF_LOG) page.on("console", (message) => console.error(message.text()));
  const port = server.address().port;
  await page.goto(`http://127.0.0.1:${port}/segmentation?StudyInstanceUIDs=${study}`);
  const deadline = Date.now() + 120_000;
  // The browser of series is drawn before the grid, and a click without a viewport is lost.
  while (!(await page.evaluate(gridIsReady)) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  while (!(await page.evaluate(openSeries, description)) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  let shown = null;
  while (shown === null && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    shown = await page.evaluate(shownSegmentations);
  }
  // The first paint after the masks have come.
  await new Promise((resolve) => setTimeout(resolve, 5000));
  await page.screenshot({ path: picture });
  console.log(JSON.stringify({ shown, failed }));
  process.exitCode = shown === null || failed.length > 0 ? 1 : 0;
} finally {
  await browser.close();
  server.close();
}
