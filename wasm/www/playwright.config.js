import { defineConfig } from "@playwright/test";

const PORT = 4173;

/** Debian's Chromium, or the one that CHROMIUM names. */
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

const quiet = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** WebGPU in software, for machines without a GPU. */
const software = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];

export default defineConfig({
  testDir: "tests",
  testMatch: "*.spec.js",
  outputDir: "test-results",
  workers: 1,
  fullyParallel: false,
  timeout: 180_000,
  reporter: [["list"]],
  expect: { timeout: 20_000 },
  use: {
    baseURL: `http://localhost:${PORT}/`,
    viewport: { width: 1440, height: 900 },
    launchOptions: { executablePath, args: quiet },
  },
  projects: [
    { name: "cpu", testIgnore: "webgpu.spec.js" },
    {
      name: "webgpu",
      testMatch: "webgpu.spec.js",
      use: { launchOptions: { executablePath, args: [...quiet, ...software] } },
    },
  ],
  webServer: { command: `vite preview --port ${PORT} --strictPort`, port: PORT, reuseExistingServer: false },
});
